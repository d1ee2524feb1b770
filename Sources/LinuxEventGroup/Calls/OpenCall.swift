internal import LinuxEvent
internal import Synchronization

/// One call, from the moment it is made until it is answered and forgotten.
///
/// It goes to its target as the address in a node, and comes home as the address in another one, which has the result
/// as well. One reference goes along on this trip, handed from node to node and counted by nobody; who ends the trip
/// releases it. As a rule that is the calling shard, on whose thread all of this was allocated too. An open call is on
/// its shard's list by address only: the reference that is on the trip keeps it.
///
/// All that is `var` belongs to the calling shard, but for the body. The target reads the rest, has the body for the
/// time of its run, and looks at `stage`.
@safe @usableFromInline class OpenCall: @unchecked Sendable {
    // Unchecked: see above.

    /// Something that needs to know the type of the result, and is specialised for it in the user's module. A method
    /// to be overridden would not be: it would look up at run time, per call, what a result of that type is.
    @usableFromInline typealias Step = @Sendable (_ call: OpenCall, _ shard: Shard, _ payload: UInt) -> Void

    /// Runs the body, and stores its result in a node.
    private let run: Step
    /// Takes the result out of a node, and gives it to the reply, if there still is one.
    private let finish: Step

    /// Whether anyone waits for the end of the trip, and whether it has ended in silence.
    private enum Stage {
        static var open: UInt8 { 0 }
        /// Nobody waits: a block that has not begun does not begin, and who ends the trip releases the reference.
        static var closed: UInt8 { 1 }
        /// The trip has ended, and home was not told, since it takes nothing any more, or never was on its way. Who
        /// closes the call releases the reference.
        static var stranded: UInt8 { 2 }
    }

    private let stage = Atomic<UInt8>(Stage.open)
    /// Its reply has not run, and it was not cancelled.
    private(set) var isOpen = true
    private var timer: Timer?
    fileprivate var next: Unmanaged<OpenCall>?
    fileprivate var previous: Unmanaged<OpenCall>?
    /// It is there while the call is open, and after that nobody asks for it.
    private let list: Unmanaged<OpenCalls>
    /// The target's number, if it is of the same group.
    fileprivate let target: Int?
    /// The calling shard. The target's group keeps it alive, and where that is another group, this does.
    private let home: Unmanaged<ShardCore>
    private let foreignHome: ShardCore?

    @usableFromInline init(
        _ shard: borrowing Shard, _ target: borrowing ShardReference, run: @escaping Step, finish: @escaping Step
    ) {
        self.run = run
        self.finish = finish
        unsafe list = .passUnretained(shard.openCalls)
        unsafe home = .passUnretained(shard.core)
        let isOfOneGroup = shard.core.outside === target.core.outside
        self.target = isOfOneGroup ? target.index : nil
        foreignHome = isOfOneGroup ? nil : shard.core
    }

    // MARK: To be overridden; all of it is seldom

    /// Ends it without a result, if it is open. On the calling shard.
    func fail(_ error: CallError, on shard: Shard) {}
    /// Closes it, and lets go of the reply. On the calling shard.
    fileprivate func drop() {}
    fileprivate func dropBody() {}
    /// Destroys a result that lies in a node.
    fileprivate func dropResult(at payload: UInt) {}

    // MARK: The calling shard's side

    /// On its way, or why not: then the error comes as the reply, in a later turn.
    func start(_ target: ShardCore, _ deadline: Duration?, on shard: Shard) {
        shard.openCalls.add(self)
        let trip = unsafe Unmanaged.passRetained(self)
        if let refusal = unsafe send(trip, to: target, shard.openCalls.nodes) {
            stage.store(Stage.stranded, ordering: .relaxed)
            shard.loop.defer { [unowned shard] _ in self.fail(refusal, on: shard) }
        } else if let deadline {
            timer = shard.loop.after(deadline) { [unowned shard] _, _ in self.fail(.deadlineExceeded, on: shard) }
        }
    }

    private func send(_ trip: Unmanaged<OpenCall>, to target: ShardCore, _ kinds: CallNodes) -> CallError? {
        switch target.admit(for: kinds.request) {
        case .full: return .full
        case .closed: return .closed
        case .node(let node):
            unsafe CallNodes.store(trip, at: node.payload)
            if target.publish(node) { return nil }
            target.takeBack(node)
            return .closed
        }
    }

    func cancel() -> Bool {
        guard isOpen else { return false }
        drop()
        return true
    }

    /// Off the list, and its timer cancelled.
    private func leave() {
        isOpen = false
        if timer != nil {
            timer?.cancel()
            timer = nil
        }
        unsafe list._withUnsafeGuaranteedRef { $0.remove(self) }
    }

    /// Ends it before the answer has come. The caller holds a reference, and has emptied what the target must not find
    /// if it is the one to destroy this.
    final func close() {
        leave()
        // Releasing: the target that finds it closed sees it emptied. Acquiring: what the target has put back.
        if stage.exchange(Stage.closed, ordering: .acquiringAndReleasing) == Stage.stranded { letGo() }
    }

    /// The answer is here. It takes the reference of the trip.
    fileprivate func answered(on shard: Shard, _ payload: UInt) {
        if isOpen { leave() }
        finish(self, shard, payload)
        unsafe Unmanaged.passUnretained(self).release()
    }

    /// The target has ended, or given up, before it ran the body. It takes the reference of the trip.
    fileprivate func returned(on shard: Shard) {
        fail(.closed, on: shard)
        letGo()
    }

    // MARK: The target's side

    /// Runs the body, and brings the result home. It takes the reference of the trip.
    fileprivate func arrived(on shard: Shard) {
        guard stage.load(ordering: .acquiring) == Stage.open else { return letGo() }
        withHome { home in
            let node = node(to: home, from: shard)
            run(self, shard, node.payload)
            node.mark(handler: shard.openCalls.nodes.answer, [])
            if bring(node, home) { return }
            dropResult(at: node.payload)
            home.takeBack(node)
            strand()
        }
    }

    /// The target's end, or a stop, came first. It takes the reference of the trip.
    fileprivate func refused(on shard: Shard) {
        guard stage.load(ordering: .acquiring) == Stage.open else { return letGo() }
        withHome { home in
            let node = node(to: home, from: shard)
            node.mark(handler: shard.openCalls.nodes.refusal, [])
            if bring(node, home) { return }
            home.takeBack(node)
            strand()
        }
    }

    /// Lends the calling shard. If its group is not the target's, then from the moment that the answer is published on
    /// nothing else may keep it alive, and yet it may have to be rung.
    @inline(__always)
    private func withHome(_ body: (ShardCore) -> Void) {
        let home = unsafe home
        let isForeign = foreignHome != nil
        if isForeign { _ = unsafe home.retain() }
        unsafe home._withUnsafeGuaranteedRef { body($0) }
        if isForeign { unsafe home.release() }
    }

    @inline(__always)
    private func node(to home: ShardCore, from shard: Shard) -> TaskNode {
        foreignHome == nil ? shard.nodes.take() : home.takeNode()
    }

    /// Answers are let through where a post would be refused; only a shard that has ended takes none, and that one has
    /// failed its calls itself. Contract G9. If it is true, the call may be gone already.
    @inline(__always)
    private func bring(_ node: TaskNode, _ home: ShardCore) -> Bool {
        unsafe CallNodes.store(Unmanaged.passUnretained(self), at: node.payload)
        return home.publish(node)
    }

    // MARK: Ends of the trip

    /// The trip ends here, and nobody at home is told.
    fileprivate func strand() {
        if stage.exchange(Stage.stranded, ordering: .acquiringAndReleasing) == Stage.closed { letGo() }
    }

    /// The answer was not taken in. At home.
    fileprivate func answerDestroyed(_ payload: UInt) {
        dropResult(at: payload)
        strand()
    }

    private func letGo() {
        dropBody()  // now, though somebody may still hold the handle
        unsafe Unmanaged.passUnretained(self).release()
    }
}

/// A call whose body returns this type.
@safe @usableFromInline final class TypedCall<Value>: OpenCall, @unchecked Sendable {
    // Unchecked: as `OpenCall`; the body is the target's while that runs it, the reply is the calling shard's.
    @exclusivity(unchecked) @usableFromInline var body: Body?  // moved in and out whole
    @exclusivity(unchecked) @usableFromInline var reply: Reply?  // moved in and out whole

    @usableFromInline typealias Outcome = Result<Value, any Error>

    // Structs, because a bare closure in generic storage is boxed anew on every store.
    @usableFromInline struct Body: Sendable {
        @usableFromInline let run: @Sendable (Shard) throws -> sending Value
        @inlinable init(run: @escaping @Sendable (Shard) throws -> sending Value) { self.run = run }
    }
    @usableFromInline struct Reply {
        @usableFromInline let run: CallReply<Value>
        @inlinable init(run: @escaping CallReply<Value>) { self.run = run }
    }

    @inlinable
    init(
        _ shard: borrowing Shard, _ target: borrowing ShardReference,
        _ body: @escaping @Sendable (Shard) throws -> sending Value, _ reply: @escaping CallReply<Value>
    ) {
        unsafe self.body = Body(run: body)
        unsafe self.reply = Reply(run: reply)
        super.init(
            shard, target, run: { call, shard, payload in Self.run(call, shard, payload) },
            finish: { call, shard, payload in Self.finish(call, shard, payload) })
    }

    @inlinable @inline(__always)
    static func run(_ call: OpenCall, _ shard: Shard, _ payload: UInt) {
        let call = unsafe unsafeDowncast(call, to: TypedCall<Value>.self)
        // Moved out and back, which counts no reference; it dies at home, where its memory came from.
        guard let body = unsafe call.body.take()?.run else { return }
        let outcome: Outcome
        do { outcome = .success(try body(shard)) } catch { outcome = .failure(error) }
        unsafe call.body = Body(run: consume body)
        Payload<Outcome>.store(outcome, at: payload, room: CallNodes.room)
    }

    @inlinable @inline(__always)
    static func finish(_ call: OpenCall, _ shard: Shard, _ payload: UInt) {
        let call = unsafe unsafeDowncast(call, to: TypedCall<Value>.self)
        let outcome = Payload<Outcome>.take(at: payload, room: CallNodes.room)
        unsafe call.body = nil
        guard let reply = unsafe call.reply.take()?.run else { return }
        reply(shard, outcome)
    }

    override func fail(_ error: CallError, on shard: Shard) {
        guard isOpen, let reply = unsafe reply.take() else { return }
        close()
        reply.run(shard, .failure(error))
    }

    override fileprivate func drop() {
        // Released after the call is closed: that may run user code, which may come back here.
        let last = unsafe reply.take()
        close()
        withExtendedLifetime(last) {}
    }

    override fileprivate func dropBody() { unsafe body = nil }

    override fileprivate func dropResult(at payload: UInt) {
        _ = Payload<Outcome>.take(at: payload, room: CallNodes.room)
    }
}

/// The three kinds of nodes that calls travel in, each by the address of its handler. Looked up once for each shard.
@usableFromInline struct CallNodes: Sendable {
    /// Goes to the target.
    let request: UInt
    /// Brings the result home.
    let answer: UInt
    /// Comes home from a target that does not run the body.
    let refusal: UInt

    private static let requests = ChannelHandler(
        each: { shard, payload in lend(at: payload) { $0.arrived(on: shard) } },
        destroy: { payload in Shard.withCurrent { shard in lend(at: payload) { $0.refused(on: shard) } } })
    private static let answers = ChannelHandler(
        each: { shard, payload in lend(at: payload) { $0.answered(on: shard, payload) } },
        destroy: { payload in lend(at: payload) { $0.answerDestroyed(payload) } })
    private static let refusals = ChannelHandler(
        each: { shard, payload in lend(at: payload) { $0.returned(on: shard) } },
        destroy: { payload in lend(at: payload) { $0.strand() } })

    init() {
        request = Self.address(of: Self.requests)
        answer = Self.address(of: Self.answers)
        refusal = Self.address(of: Self.refusals)
    }

    /// Good for ever: all three live as long as the process.
    private static func address(of handler: ChannelHandler) -> UInt {
        unsafe UInt(bitPattern: Unmanaged.passUnretained(handler).toOpaque())
    }

    /// How many bytes of a node are the result's. After them comes the call's address.
    @inlinable static var room: Int { 40 }

    fileprivate static func store(_ call: Unmanaged<OpenCall>, at payload: UInt) {
        unsafe place(payload).pointee = UInt(bitPattern: call.toOpaque())
    }

    /// Lends a call for a step that releases it, or passes it on.
    @inline(__always)
    private static func lend(at payload: UInt, _ step: (OpenCall) -> Void) {
        let opaque = unsafe UnsafeRawPointer(bitPattern: place(payload).pointee).unsafelyUnwrapped
        unsafe Unmanaged<OpenCall>.fromOpaque(opaque)._withUnsafeGuaranteedRef { step($0) }
    }

    private static func place(_ payload: UInt) -> UnsafeMutablePointer<UInt> {
        unsafe UnsafeMutablePointer(bitPattern: payload &+ UInt(room)).unsafelyUnwrapped
    }
}

/// The calls that one shard waits for: a list, so that a stop can fail them. Contract G9.
@safe final class OpenCalls {
    private var first: Unmanaged<OpenCall>?
    private let counts: CallCounts
    let nodes = CallNodes()

    init(_ counts: CallCounts) { self.counts = counts }

    fileprivate func add(_ call: OpenCall) {
        if let target = call.target { counts.add(1, to: target) }
        unsafe call.next = first
        let added = unsafe Unmanaged.passUnretained(call)
        unsafe first?._withUnsafeGuaranteedRef { unsafe $0.previous = added }
        unsafe first = added
    }

    fileprivate func remove(_ call: OpenCall) {
        if let target = call.target { counts.add(-1, to: target) }
        let next = unsafe call.next
        let previous = unsafe call.previous
        unsafe next?._withUnsafeGuaranteedRef { unsafe $0.previous = previous }
        if let previous = unsafe previous {
            unsafe previous._withUnsafeGuaranteedRef { unsafe $0.next = next }
        } else {
            unsafe first = next
        }
        unsafe call.next = nil
        unsafe call.previous = nil
    }

    /// Nobody will answer any more, or nobody here will listen.
    func failAll(on shard: Shard) {
        while let call = unsafe first?.takeUnretainedValue() {
            call.fail(.closed, on: shard)
            withExtendedLifetime(call) {}
        }
    }
}
