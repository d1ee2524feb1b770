import Glibc
import LinuxEvent
import TestSupport

/// A child of this process, for a script to observe.
final class ChildModel {
    /// Who has taken its status from the kernel.
    enum Waiter { case nobody, somebody, loop, loopPerhaps }

    let pid: CInt
    /// What it was started with a copy of.
    var holds: OpenFile?
    var isRunning = true
    var waiter = Waiter.nobody
    /// It had ended when the present batch was fetched.
    var isFetched = false
    /// The end is being told in this turn.
    var isBeingTold = false

    init(_ pid: CInt, holding file: OpenFile?) {
        self.pid = pid
        holds = file
        file?.childHolders += 1
    }

    /// Kills it, and waits until the kernel has seen to it.
    func end() {
        guard isRunning else { return }
        Glibc.kill(pid, SIGKILL)
        settle()
    }

    func settle() {
        var info = siginfo_t()
        waitid(P_PID, id_t(pid), &info, WEXITED | WNOWAIT)
        isRunning = false
        holds?.childHolders -= 1
        holds = nil
    }

    /// Whether its status can still be waited for.
    var isZombie: Bool {
        var info = siginfo_t()
        return waitid(P_PID, id_t(pid), &info, WEXITED | WNOWAIT | WNOHANG) == 0
    }
}

/// What the contract says of one observer of a child.
final class ObserverModel {
    let child: ChildModel
    let reaps: Bool
    var handle: ChildObserver?
    var isActive = true
    /// Made when its child's end was in the batch already: it may be told with the others or in the next turn.
    var isLate = false

    init(_ child: ChildModel, reaps: Bool) { (self.child, self.reaps) = (child, reaps) }
}

extension Comparison {
    func performOnChildren(_ act: Act) -> Bool {
        if act.kind == .spawn { return spawn(act.operand == 1 ? Int(act.subject) : nil) }
        if act.kind == .cancelObserver {
            guard !observers.isEmpty else { return false }
            cancel(observers[Int(act.subject) % observers.count])
            return true
        }
        guard !children.isEmpty else { return false }
        let child = children[Int(act.subject) % children.count]
        switch act.kind {
        case .observe: observe(child, reaps: act.operand == 0)
        case .kill: kill(child, byObserver: act.operand == 1)
        default: return steal(child)
        }
        return true
    }

    /// A child that does nothing until it is killed.
    private func spawn(_ slot: Int?) -> Bool {
        guard children.count < 2 else { return false }
        let held = slot.flatMap { files.isOpen($0) ? $0 : nil }
        let process = Sleeper.start(holding: held.map { files.numbers[$0] })
        children.append(ChildModel(process, holding: held.flatMap { files.files[$0] }))
        if held != nil { situations.note(.heldByChild) }
        return true
    }

    private func observe(_ child: ChildModel, reaps: Bool) {
        guard observers.count < 6 else { return }
        let observer = ObserverModel(child, reaps: reaps)
        let isGone = child.waiter == .somebody || child.waiter == .loop
        let result = outcome { () throws(LoopError) in
            try loop.childExit(child.pid, reap: reaps) { [unowned self] loop, exit in self.told(observer, loop, exit) }
        }
        switch result {
        case .failure(let error):
            check(isGone && error.code == ESRCH || child.waiter == .loopPerhaps, "C2 childExit threw \(error)")
            situations.note(.refusedESRCH)
        case .success(let handle):
            check(!isGone || hasUntold(child), "C2 a child that was waited for was accepted")
            check(handle.isActive && handle.pid == child.pid, "C1 a new observer is not so")
            observer.handle = handle
            observer.isLate = phase == .events && child.isFetched
            observers.append(observer)
        }
    }

    /// An observer that was not told yet: its pidfd stands for the child, also after somebody has waited for it.
    private func hasUntold(_ child: ChildModel) -> Bool { observers.contains { $0.child === child && $0.isActive } }

    private func kill(_ child: ChildModel, byObserver: Bool) {
        guard byObserver else { return ending(child) { child.end() } }
        guard let observer = observers.last(where: { $0.child === child }), let handle = observer.handle else { return }
        ending(child) {
            let result = outcome { () throws(LoopError) in try handle.kill(SIGKILL) }
            if hasUntold(child), child.isRunning {
                check(result.error == nil, "C4 kill() of a running child came to \(result)")
                child.settle()
                situations.note(.killedByObserver)
            } else if !hasUntold(child) {
                check(result.code == ESRCH, "C4 kill() after the end or the cancel came to \(result)")
            }
        }
    }

    /// A child's end may be the end of a file.
    private func ending(_ child: ChildModel, _ body: () -> Void) {
        guard let file = child.holds else { return body() }
        changing(file, isStateChange: true, body)
        residues.removeAll { !files.isAlive($0) }
    }

    /// Somebody else waits for it.
    private func steal(_ child: ChildModel) -> Bool {
        guard !child.isRunning, child.waiter != .somebody, child.waiter != .loop else { return false }
        let taken = waitpid(child.pid, nil, WNOHANG) == child.pid
        if child.waiter == .nobody { check(taken, "C3 a child that the loop was not to wait for was waited for") }
        child.waiter = .somebody
        situations.note(.stolen)
        return true
    }

    private func cancel(_ observer: ObserverModel) {
        guard let handle = observer.handle else { return }
        if observer.isActive { situations.note(.cancelledObserver) }
        check(handle.cancel() == observer.isActive, "C4 cancel() of an observer did not return \(observer.isActive)")
        check(!handle.isActive, "C4 a cancelled observer is active")
        observer.isActive = false
    }

    // MARK: Being told

    func fetchChildren() {
        for child in children {
            child.isFetched = !child.isRunning && hasUntold(child)
            child.isBeingTold = false
            if child.isFetched { run.asked += 1 }
        }
        for observer in observers { observer.isLate = false }
    }

    private func told(_ observer: ObserverModel, _ loop: Loop, _ exit: ChildExit) {
        guard divergence == nil else { return }
        let child = observer.child
        note { "  end of child \(exit)" }
        situations.callbacks += 1
        guard phase == .events, depth == 0, run.isDispatching else {
            return fail("L15 a child outside the events: \(phase)")
        }
        closeCurrent()
        check(loop === self.loop && exit.pid == child.pid, "C1 an observer was told of another child")
        check(observer.isActive, "C4 an observer was told after its end, or twice")
        check(child.isFetched, "C1 an observer was told of the end of a child that lives")
        let isLost = child.waiter == .somebody && exit.status == .unknown
        check(exit.status == .killed(SIGKILL) || isLost, "C1 the status of a killed child is \(exit.status)")
        if !child.isBeingTold { firstTold(child) }
        if child.isBeingTold { situations.note(.toldToSeveral) }
        child.isBeingTold = true
        observer.isActive = false
        check(observer.handle?.isActive == false, "C1 an observer is active while it is told")
        situations.note(.told)
        depth += 1
        performPlanned(.child)
        depth -= 1
    }

    /// Contract C3: one observer that reaps is enough.
    private func firstTold(_ child: ChildModel) {
        guard child.waiter == .nobody else { return }
        let reaps = observers.contains { $0.child === child && $0.isActive && $0.reaps }
        if reaps {
            child.waiter = .loop
            check(!child.isZombie, "C3 a child was told, and its status was not taken")
        } else {
            check(child.isZombie, "C3 the status of a child was taken that was to be left")
            situations.note(.kept)
        }
    }

    func closeChildren() {
        for observer in observers where observer.isActive && !observer.isLate && observer.child.isFetched {
            fail("C1 an observer of \(observer.child.pid) was not told of its end")
        }
    }

    var isAnyEndUntold: Bool { observers.contains { $0.isActive && !$0.child.isRunning } }

    func endChildren() {
        for child in children {
            child.end()
            waitpid(child.pid, nil, WNOHANG)
        }
    }
}

/// A process that sleeps until it is killed.
private enum Sleeper {
    static func start(holding descriptor: CInt?) -> CInt {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        for number: CInt in 0...2 { posix_spawn_file_actions_addopen(&actions, number, "/dev/null", O_RDWR, 0) }
        // A copy onto itself takes close-on-exec away, in the child only.
        if let descriptor { posix_spawn_file_actions_adddup2(&actions, descriptor, descriptor) }
        var pid: pid_t = 0
        var words: [UnsafeMutablePointer<CChar>?] = [strdup("sleep"), strdup("1000"), nil]
        let result = posix_spawnp(&pid, "sleep", &actions, nil, &words, environ)
        for word in words { free(word) }
        posix_spawn_file_actions_destroy(&actions)
        if result != 0 { fatalError("test preparation: posix_spawn: \(String(cString: strerror(result)))") }
        // posix_spawn(3) returns when the memory is the parent's own again. The child's copies of the descriptors,
        // which are closed on exec, may still be there for a moment.
        Pause.until(milliseconds: 2_000) { isAsleep(pid) }
        return pid
    }

    private static func isAsleep(_ pid: CInt) -> Bool { Files.text("/proc/\(pid)/stat").contains("(sleep) S") }
}
