import Glibc

/// A helper program that was started, to be finished by `end(within:)`.
public final class HelperProcess {
    public let pid: CInt
    private let output: Pipe
    private let errors: Pipe
    private var outputBytes: [UInt8] = []
    private var errorBytes: [UInt8] = []
    private var status: CInt?

    public struct Outcome: Sendable, CustomStringConvertible {
        public let exitCode: CInt?
        public let signal: CInt?
        public let output: String
        public let errors: String
        public var description: String {
            "exit \(exitCode.map(String.init) ?? "-") signal \(signal.map(String.init) ?? "-")\n\(output)\(errors)"
        }
    }

    /// Starts a program with an empty signal mask; `inheriting` are descriptors that it shall also have.
    public init(_ path: String, _ arguments: [String] = [], inheriting: [CInt] = []) {
        output = Pipe()
        errors = Pipe()
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_adddup2(&actions, output.writer, 1)
        posix_spawn_file_actions_adddup2(&actions, errors.writer, 2)
        // A copy onto itself takes close-on-exec away, in the child only.
        for descriptor in inheriting { posix_spawn_file_actions_adddup2(&actions, descriptor, descriptor) }
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        var nothing = sigset_t()
        sigemptyset(&nothing)
        posix_spawnattr_setsigmask(&attributes, &nothing)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
        var pid: pid_t = 0
        var words: [UnsafeMutablePointer<CChar>?] = ([path] + arguments).map { strdup($0) } + [nil]
        var variables: [UnsafeMutablePointer<CChar>?] = HelperProcess.variables().map { strdup($0) } + [nil]
        let result = posix_spawnp(&pid, path, &actions, &attributes, &words, &variables)
        for word in words + variables { free(word) }
        posix_spawnattr_destroy(&attributes)
        posix_spawn_file_actions_destroy(&actions)
        if result != 0 { fatalError("test preparation: posix_spawn \(path): \(String(cString: strerror(result)))") }
        self.pid = pid
        output.closeWriter()
        errors.closeWriter()
        // The helper's stdout must block it when full; ours need not.
    }

    private static func variables() -> [String] {
        var found = ["SWIFT_BACKTRACE=enable=no"]
        for name in [
            "PATH", "HOME", "LD_LIBRARY_PATH", "TMPDIR", "LINUX_EVENT_LONG", "LINUX_EVENT_SEED", "LINUX_EVENT_SLOW",
            "ASAN_OPTIONS", "TSAN_OPTIONS",
        ] {
            if let value = Effort.environment(name) { found.append("\(name)=\(value)") }
        }
        return found
    }

    public func send(_ signal: CInt) { kill(pid, signal) }

    /// Reads until a line of the helper's output is exactly this text; false if that takes more than ten seconds
    /// (more on a slow machine).
    public func waitForLine(_ text: String) -> Bool {
        let deadline = Clock.monotonic() &+ Effort.atMost(10_000_000_000)
        while Clock.monotonic() < deadline {
            let ended = collect(output.reader, into: &outputBytes)
            let lines = String(decoding: outputBytes, as: UTF8.self).split(separator: "\n")
            if lines.contains(where: { $0 == text }) { return true }
            if ended { return false }
            usleep(500)
        }
        return false
    }

    /// Waits for the end of the program; one that does not end in time is killed, and shows SIGKILL.
    public func end(withinSeconds seconds: Int = 20) -> Outcome {
        let deadline = Clock.monotonic() &+ Effort.atMost(UInt64(seconds) &* 1_000_000_000)
        var raw: CInt = 0
        while true {
            _ = collect(output.reader, into: &outputBytes)
            _ = collect(errors.reader, into: &errorBytes)
            if waitpid(pid, &raw, WNOHANG) == pid { break }
            if Clock.monotonic() > deadline {
                kill(pid, SIGKILL)
                waitpid(pid, &raw, 0)
                break
            }
            usleep(500)
        }
        _ = collect(output.reader, into: &outputBytes)
        _ = collect(errors.reader, into: &errorBytes)
        status = raw
        let number = raw & 0x7f
        return Outcome(
            exitCode: number == 0 ? (raw >> 8) & 0xff : nil, signal: number == 0 ? nil : number,
            output: String(decoding: outputBytes, as: UTF8.self), errors: String(decoding: errorBytes, as: UTF8.self))
    }

    private func collect(_ descriptor: CInt, into bytes: inout [UInt8]) -> Bool {
        var buffer = [UInt8](repeating: 0, count: 65536)
        while true {
            let n = Glibc.read(descriptor, &buffer, buffer.count)
            if n > 0 { bytes.append(contentsOf: buffer[0..<n]); continue }
            return n == 0
        }
    }

    deinit {
        guard status == nil else { return }
        kill(pid, SIGKILL)
        var raw: CInt = 0
        waitpid(pid, &raw, 0)
    }
}

/// Where the build put things, and where tools are.
public enum Build {
    /// The folder of the running test program.
    public static var folder: String {
        let path = Files.link("/proc/self/exe") ?? CommandLine.arguments[0]
        return path.split(separator: "/").dropLast().reduce(into: "") { $0 += "/" + $1 }
    }

    /// Freed memory is kept back for a while, so what the process holds says little.
    public static let hasAddressSanitizer = dlsym(nil, "__asan_init") != nil

    /// Threads and memory have companions that the test did not make.
    public static let hasThreadSanitizer = dlsym(nil, "__tsan_init") != nil

    /// Both replace malloc(3), so the memory that the process holds is not what the code under test holds.
    public static let hasOwnAllocator = hasAddressSanitizer || hasThreadSanitizer

    /// A program built by the package, or nil.
    public static func program(_ name: String) -> String? {
        let path = folder + "/" + name
        return access(path, X_OK) == 0 ? path : nil
    }

    /// The folder that holds a built module.
    public static func modules(holding module: String) -> String? {
        var candidates = [folder + "/Modules", folder]
        if let named = Effort.environment("LINUX_EVENT_MODULES") { candidates.insert(named, at: 0) }
        return candidates.first { Files.exists($0 + "/" + module + ".swiftmodule") }
    }

    /// A program found through PATH, or nil.
    public static func tool(_ name: String) -> String? {
        let folders = (Effort.environment("PATH") ?? "/usr/bin:/bin").split(separator: ":")
        return folders.map { $0 + "/" + name }.first { access($0, X_OK) == 0 }
    }
}
