/// Values that hang on a shard, and end with it: what `LoopGroup.local` makes. Contract G6.
extension Shard {
    /// A value that hangs on this shard, and what ends it.
    struct Service {
        let owner: ObjectIdentifier
        let end: (Shard) -> Void
    }

    func addService(_ owner: ObjectIdentifier, end: @escaping (Shard) -> Void) {
        services.append(Service(owner: owner, end: end))
    }

    func endService(_ owner: ObjectIdentifier) {
        guard let index = services.firstIndex(where: { $0.owner == owner }) else { return }
        services.remove(at: index).end(self)
    }

    /// The last made goes first. Contract G6.
    func endServices() {
        while let service = services.popLast() { service.end(self) }
    }
}
