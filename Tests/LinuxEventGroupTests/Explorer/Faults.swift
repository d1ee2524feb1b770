/// Wrong versions of the algorithms. Each must be noticed, but for those that are harmless.
enum Fault: String, CaseIterable, Sendable {
    // The mailbox's word.
    /// A push that finds the shard awake stores, and does not exchange.
    case skipsExchangeWhenAwake
    /// The shard looks whether the box is empty and stores that it sleeps.
    case armsByStore
    case ringsBeforePublishing
    /// Who rings is decided by the first look at the word.
    case ringsByFirstLook
    /// Every push rings.
    case ringsAlways
    case takesWithoutAcquiring
    /// A take looks and stores that nothing is there.
    case takesByStore
    case pushesWithoutReleasing
    /// The shard sleeps although something came.
    case sleepsOnFailure
    // The way home of nodes.
    case returnsWithoutReleasing
    case returnsByStore
    case fetchesWithoutAcquiring
    case fetchesByStore
    /// Empty nodes go to their owner's mailbox, and nobody rings for them.
    case returnsThroughRingingWord
    // The end.
    case closesByStore
    case closesWithoutAcquiring
    /// A push takes the closed word for a node like any other.
    case pushesWhenClosed
    /// A chain that was refused keeps the link that the push had tried.
    case leavesRefusedLinked
    case abandonsWithoutLock
    case forgetsOrphans
    /// A shard that ends closes its waker's descriptor, whoever is about to write to it.
    case wakerGoesWithItsShard
    /// A poster lets go of the waker while its write is under way.
    case wakerGoesBeforeWriteReturns

    // Harmless.
    /// The loads that a push, a take, a sleep and a return begin with acquire, and so does a failed compare-exchange.
    /// Their values are only compared and linked, nothing behind them is read, and the exchange after them decides. So
    /// `relaxed` is enough, and more changes nothing.
    case looksAcquire
    /// The compare-exchange to sleep acquires and releases. No data goes with it: its place in the order of the word's
    /// changes is all that counts.
    case sleepIsOrdered
    /// A compare-exchange in a loop is a strong one: it has one round less at times.
    case exchangesStrongly
    /// A close does not release. Whoever finds the word closed reads nothing of what the closer wrote.
    case closesWithoutReleasing
    /// A take that opened a box closed from outside leaves it open. The shard is on its way to its end, and closes it
    /// again; what was pushed meanwhile was accepted, and is taken then.
    case leavesBoxOpen

    static let harmless: [Fault] = [
        .looksAcquire, .sleepIsOrdered, .exchangesStrongly, .closesWithoutReleasing, .leavesBoxOpen,
    ]
    static let harmful = allCases.filter { !harmless.contains($0) }

    /// Where it shows, if anywhere.
    var population: Population {
        switch self {
        case .returnsByStore, .fetchesByStore: .returns
        case .returnsWithoutReleasing, .fetchesWithoutAcquiring, .returnsThroughRingingWord: .twoShards
        case .closesByStore, .closesWithoutAcquiring, .pushesWhenClosed, .abandonsWithoutLock, .forgetsOrphans: .stop
        case .leavesRefusedLinked: .stopTwoPosters
        case .wakerGoesWithItsShard, .wakerGoesBeforeWriteReturns: .stop
        case .closesWithoutReleasing, .leavesBoxOpen: .stop
        default: .twoPosters
        }
    }
}

/// What an explored word does otherwise than it is told: that makes of the production's own source a wrong algorithm.
enum WordFault: Hashable {
    case acquiresNothing, releasesNothing
    /// Every load acquires, also that of a failed compare-exchange.
    case loadsAcquire
    case exchangesStrongly
    /// An exchange for this value releases nothing.
    case exchangeReleasesNothing(for: UInt)
    /// An exchange for this value acquires nothing.
    case exchangeAcquiresNothing(for: UInt)
    /// An exchange for this value is a load and a store.
    case exchangesByStore(for: UInt)
    /// A compare-exchange for this value is a load and a store.
    case comparesByStoreFor(UInt)
    /// A compare-exchange is a load and a store, except from this value.
    case comparesByStoreExceptFrom(UInt)
    /// A compare-exchange is a load and a store.
    case comparesByStoreAlways
    /// A compare-exchange for this value acquires and releases.
    case compareIsOrdered(for: UInt)
}
