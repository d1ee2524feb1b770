internal import CLinux

extension Loop {
    /// Watches a descriptor until `unwatch` or the watcher's `cancel`. Giving a read or a write handler enables that
    /// interest. A watcher that was there is replaced in one step. Contract W1, W2.
    ///
    /// The descriptor stays the user's: cancel the watcher before closing it. Contract L5, W9.
    ///
    /// - Parameters:
    ///   - read: there is something to read, or the end of it. Runs for IN, HUP, RDHUP and PRI. Contract D3, D4.
    ///   - write: there is room. Runs for OUT. Contract D5.
    ///   - error: runs for ERR, alone. Without it ERR runs `read` and `write`. Contract D1, D2.
    ///   - edgeTriggered: one callback per edge; read or write until EAGAIN. Contract W6.
    ///   - oneshot: after one event the watcher is silent until `rearm()`. Contract W7.
    ///   - exclusive: EPOLLEXCLUSIVE, for one listener in several loops; not with `oneshot`, `priority` or
    ///     `readHangup`.
    ///   - priority: asks for exceptional data too.
    ///   - readHangup: asks to be told when the peer will send no more.
    ///   - interest: what to begin with, of that for which there is a handler; nil: all of it.
    /// - Throws: the kernel's errno: EBADF (also for a negative number), EPERM for what cannot be polled, such as a
    ///   regular file, ENOSPC, ENOMEM, ELOOP, EINVAL for `exclusive` with what does not go with it. Then nothing has
    ///   changed. Contract W8. `.internalDescriptor` for one of the loop's own. Contract E3.
    @discardableResult
    public func watch(
        _ descriptor: CInt, read: Handler? = nil, write: Handler? = nil, error: Handler? = nil,
        edgeTriggered: Bool = false, oneshot: Bool = false, exclusive: Bool = false,
        priority: Bool = false, readHangup: Bool = false, interest: Interest? = nil
    ) throws(LoopError) -> Watcher {
        if isForeign { throw .forked }
        var traits: WatcherTraits = []
        if edgeTriggered { traits.insert(.edgeTriggered) }
        if oneshot { traits.insert(.oneshot) }
        if exclusive { traits.insert(.exclusive) }
        // The kernel would refuse these two; but a oneshot of ours does not always carry EPOLLONESHOT.
        // The kernel would refuse it only when a watcher that was there had been taken out for it.
        if exclusive, oneshot || priority || readHangup {
            throw .system(SystemError(call: "epoll_ctl ADD", code: EINVAL))
        }
        var asked: Interest = []
        if read != nil { asked.insert(.read) }
        if write != nil { asked.insert(.write) }
        if let interest { asked.formIntersection(interest) }
        if priority { asked.insert(.priority) }
        if readHangup { asked.insert(.readHangup) }
        return try watchers.watch(descriptor, WatcherRecord(read: read, write: write, error: error), traits, asked)
    }

    /// As `watch` without data; the handlers get it as a fourth argument. It is released with them. Contract W1, W12.
    @discardableResult
    public func watch<Data>(
        _ descriptor: CInt, read: DataHandler<Data>? = nil, write: DataHandler<Data>? = nil,
        error: DataHandler<Data>? = nil, data: Data,
        edgeTriggered: Bool = false, oneshot: Bool = false, exclusive: Bool = false,
        priority: Bool = false, readHangup: Bool = false, interest: Interest? = nil
    ) throws(LoopError) -> Watcher {
        func bound(_ handler: DataHandler<Data>?) -> Handler? {
            handler.map { handler in { loop, descriptor, watcher in handler(loop, descriptor, watcher, data) } }
        }
        return try watch(
            descriptor, read: bound(read), write: bound(write), error: bound(error), edgeTriggered: edgeTriggered,
            oneshot: oneshot, exclusive: exclusive, priority: priority, readHangup: readHangup, interest: interest)
    }

    /// Ends the watcher of a descriptor, if there is one; see `Watcher.cancel`. Idempotent. Contract W3.
    ///
    /// - Returns: whether something was removed.
    /// - Throws: `.internalDescriptor`, and nothing else. Contract E3.
    @discardableResult
    public func unwatch(_ descriptor: CInt) throws(LoopError) -> Bool {
        if isForeign { throw .forked }
        if !watchers.isClosed, watchers.isOwn(descriptor) { throw .internalDescriptor(descriptor) }
        guard let slot = watchers.table.slot(descriptor), slot.value.generation != 0 else { return false }
        if slot.value.traits.contains(.internal) { throw .internalDescriptor(descriptor) }
        watchers.unwatch(descriptor, slot)
        return true
    }

    /// The watcher of a descriptor, if there is one. Contract W3.
    public func watcher(of descriptor: CInt) -> Watcher? {
        guard !isForeign, let slot = watchers.table.slot(descriptor), slot.value.generation != 0,
            !slot.value.traits.contains(.internal)
        else { return nil }
        return Watcher(set: watchers, descriptor: descriptor, generation: slot.value.generation)
    }

    /// Watches a descriptor of the loop's own, edge-triggered. Contract E3.
    @discardableResult
    func watchInternal(
        _ descriptor: CInt, level: Bool = false, _ handler: @escaping Handler
    ) throws(LoopError) -> Watcher {
        let record = WatcherRecord(
            read: { loop, descriptor, watcher in
                loop.counters.internalEvents += 1
                handler(loop, descriptor, watcher)
            }, write: nil, error: nil)
        return try watchers.watch(descriptor, record, level ? .internal : [.internal, .edgeTriggered], .read)
    }
}

/// As `Handler`, with the data that was given to `watch`. Contract W1.
public typealias DataHandler<Data> = (_ loop: Loop, _ descriptor: CInt, _ watcher: Watcher, _ data: Data) -> Void
