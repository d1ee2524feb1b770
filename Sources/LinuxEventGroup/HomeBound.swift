/// A value that travels to one shard and is touched only there.
///
/// Where the compiler cannot follow a value from thread to thread, this does: access on any other thread ends the
/// process with the rule's text. Contract G6.
@safe final class HomeBound<Value>: @unchecked Sendable {
    // Unchecked: `value` is read and written on the home shard only, which `checkHome` sees to, and it is handed in
    // as `sending`, so nobody else has it.
    private let home: ShardCore
    private var contents: Value

    init(_ home: ShardCore, _ value: consuming sending Value) {
        self.home = home
        contents = consume value
    }

    var value: Value {
        get {
            checkHome()
            return contents
        }
        set {
            checkHome()
            contents = newValue
        }
    }

    private func checkHome() {
        guard Shard.isCurrent(home) else {
            fatalError("LinuxEventGroup: state of a shard is touched on its own thread only (Contract G6)")
        }
    }
}
