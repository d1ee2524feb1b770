@testable import LinuxEventGroup

/// Who takes part: few, for each part of the protocol.
enum Population: String, CaseIterable, Sendable {
    case twoPosters, twoPostersTwice, threePosters, batch, twoShards, twoShardsMore, returns, stop, stopTwoPosters
    case twoStops

    /// With five threads or so, each pre-emption more multiplies the schedules by eight.
    var isLarge: Bool { [.threePosters, .stopTwoPosters, .twoStops].contains(self) }

    func scenario(_ fault: Fault? = nil) -> Search.Scenario {
        switch self {
        case .twoPosters: Scenarios.posts(posters: 2, each: 1, fault: fault)
        case .twoPostersTwice: Scenarios.posts(posters: 2, each: 2, fault: fault)
        case .threePosters: Scenarios.posts(posters: 3, each: 1, fault: fault)
        case .batch: Scenarios.batch(fault: fault)
        case .twoShards: Scenarios.nodes(posts: 2, fault: fault)
        case .twoShardsMore: Scenarios.nodes(posts: 3, fault: fault)
        case .returns: Scenarios.returns(fault: fault)
        case .stop: Scenarios.stop(posters: 1, fault: fault)
        case .stopTwoPosters: Scenarios.stop(posters: 2, fault: fault)
        case .twoStops: Scenarios.stop(posters: 1, stoppers: 2, fault: fault)
        }
    }
}

enum Scenarios {
    /// Posters to one shard, while descriptors become ready on it.
    static func posts(posters: Int, each: Int, readiness: Int = 1, fault: Fault? = nil) -> Search.Scenario {
        { world in
            let parties = Parties(world, fault)
            let shard = ModelShard(parties, name: "shard")
            world.addThread("shard") { shard.live() }
            for poster in 0..<posters {
                let work = (0..<each).map { _ in (task: parties.task(of: poster), node: parties.node()) }
                world.addThread("poster \(poster + 1)") {
                    for (index, item) in work.enumerated() {
                        world.landmark(UInt(index))
                        parties.post(item.task, in: item.node, to: shard)
                    }
                }
            }
            if readiness > 0 {
                world.addThread("device") { for _ in 0..<readiness { world.makeReadable(shard.bell) } }
            }
            return parties.checkEnd
        }
    }

    /// One who publishes a chain of two in one step, one who posts.
    static func batch(fault: Fault? = nil) -> Search.Scenario {
        { world in
            let parties = Parties(world, fault)
            let shard = ModelShard(parties, name: "shard")
            world.addThread("shard") { shard.live() }
            let tasks = [parties.task(of: 0), parties.task(of: 0), parties.task(of: 0)]
            let nodes = [parties.node(), parties.node(), parties.node()]
            world.addThread("sender") {
                nodes[0].task = tasks[0]
                nodes[1].task = tasks[1]
                nodes[1].next = nodes[0].bits
                parties.publish([tasks[0], tasks[1]], newest: nodes[1], oldest: nodes[0], to: shard)
                parties.post(tasks[2], in: nodes[2], to: shard)
            }
            let task = parties.task(of: 1)
            let node = parties.node()
            world.addThread("poster") { parties.post(task, in: node, to: shard) }
            world.addThread("device") { world.makeReadable(shard.bell) }
            return parties.checkEnd
        }
    }

    /// A thread posts to one shard, whose tasks post to another with the shard's own nodes, which come home.
    static func nodes(posts: Int, fault: Fault? = nil) -> Search.Scenario {
        { world in
            let parties = Parties(world, fault)
            let origin = ModelShard(parties, name: "origin")
            let target = ModelShard(parties, name: "target")
            target.origin = origin
            let work = (0..<posts).map { _ in (task: parties.task(of: 0), node: parties.node()) }
            let passedOn = (0..<posts).map { _ in parties.task(of: 1) }
            origin.slab = (0..<posts).map { _ in parties.node() }
            origin.onTask = { task, hand in
                parties.post(passedOn[task - 1], in: origin.takeNode(&hand), to: target)
            }
            world.addThread("origin") { origin.live() }
            world.addThread("target") { target.live() }
            world.addThread("poster") {
                for (index, item) in work.enumerated() {
                    world.landmark(UInt(index))
                    parties.post(item.task, in: item.node, to: origin)
                }
            }
            return parties.checkEnd
        }
    }

    /// Two who bring nodes home, while their owner fetches them.
    static func returns(fault: Fault? = nil) -> Search.Scenario {
        { world in
            let parties = Parties(world, fault)
            let home = ReturnStack<ExploredWord, ExploredNode>()
            let word = world.nameWord("the home")
            world.faults[word] = ModelShard.homeFault(fault)
            let nodes = (0..<4).map { _ in parties.node() }
            for (name, own) in [("first", nodes[0..<2]), ("second", nodes[2..<4])] {
                world.addThread(name) {
                    for node in own {
                        node.task = 0
                        parties.letGo(node)
                        home.giveBack(first: node.bits, last: node.bits)
                    }
                }
            }
            let fetched = world.addNote()
            world.addThread("owner") {
                for _ in 0..<3 {
                    var bits = home.takeAll()
                    while bits != 0 {
                        let node = ExploredNode(bits: bits)
                        bits = node.next
                        parties.get(node)
                        node.task = 1
                        world.note(fetched, world.note(fetched) + 1)
                    }
                }
            }
            return {
                var left = 0
                var bits = world.newest(word)
                while bits != 0, left < nodes.count {
                    left += 1
                    bits = world.peek(ExploredNode(bits: bits).linkPlace)
                }
                let count = world.note(fetched) + left
                world.expect(count == nodes.count, "\(count) of \(nodes.count) nodes came home")
            }
        }
    }

    /// Posters, and some who stop the shard and do not wait long for it.
    static func stop(posters: Int, stoppers: Int = 1, fault: Fault? = nil) -> Search.Scenario {
        { world in
            let parties = Parties(world, fault)
            let shard = ModelShard(parties, name: "shard", stops: true)
            parties.countReferences(1 + posters + stoppers)
            world.addThread("shard") { shard.live() }
            for poster in 0..<posters {
                let (task, node) = (parties.task(of: poster), parties.node())
                world.addThread("poster \(poster + 1)") {
                    parties.post(task, in: node, to: shard)
                    parties.letGoOfWaker()
                }
            }
            for stopper in 0..<stoppers {
                world.addThread("stopper \(stopper + 1)") {
                    shard.requestStop()
                    shard.abandon()
                    parties.letGoOfWaker()
                }
            }
            return parties.checkEnd
        }
    }
}
