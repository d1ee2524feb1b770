public import LinuxEvent
import TestSupport

/// A loop as scripts drive it. A class to be overridden, so that a loop that breaks the contract can be made up: who
/// compares must be able to find it out.
open class DrivenLoop {
    public let loop: Loop

    public init() throws(LoopError) { loop = try Loop() }

    /// What a script's watcher is made of.
    public struct Request {
        public var descriptor: CInt
        public var read: Handler?
        public var write: Handler?
        public var error: Handler?
        /// Given as `data` to `watch`, where there is one.
        public var data: AnyObject?
        public var edgeTriggered = false
        public var oneshot = false
        public var exclusive = false
        public var priority = false
        public var readHangup = false
        public var interest: Interest?
    }

    open func watch(_ request: Request) throws(LoopError) -> Watcher {
        guard let data = request.data else {
            return try loop.watch(
                request.descriptor, read: request.read, write: request.write, error: request.error,
                edgeTriggered: request.edgeTriggered, oneshot: request.oneshot, exclusive: request.exclusive,
                priority: request.priority, readHangup: request.readHangup, interest: request.interest)
        }
        /// The fourth argument must be what was given; where it is not, nothing runs, and that is found out.
        func taking(_ handler: Handler?) -> DataHandler<AnyObject>? {
            handler.map { handler in
                { [unowned data] loop, descriptor, watcher, given in
                    if given === data { handler(loop, descriptor, watcher) }
                }
            }
        }
        return try loop.watch(
            request.descriptor, read: taking(request.read), write: taking(request.write), error: taking(request.error),
            data: data, edgeTriggered: request.edgeTriggered, oneshot: request.oneshot, exclusive: request.exclusive,
            priority: request.priority, readHangup: request.readHangup, interest: request.interest)
    }

    open func unwatch(_ descriptor: CInt) throws(LoopError) -> Bool { try loop.unwatch(descriptor) }

    open func cancel(_ watcher: Watcher) -> Bool { watcher.cancel() }

    open func setInterest(_ watcher: Watcher, _ interest: Interest) throws(LoopError) -> Bool {
        try watcher.setInterest(interest)
    }

    open func at(_ deadline: Instant, _ handler: @escaping (Loop, Timer) -> Void) -> Timer {
        loop.at(deadline, handler)
    }

    open func `defer`(_ block: @escaping (Loop) -> Void) { loop.defer(block) }
}
