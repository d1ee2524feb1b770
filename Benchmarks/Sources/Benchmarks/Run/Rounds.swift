/// The rounds of one case: each runs every participant once, in an order that turns by one from round to round.
struct Rounds {
    let suite: String
    let testCase: Case
    let participants: [Participant]
    let operations: Int
    let runs: Int
    /// Goes before what is said of the progress: "[3 of 40] ".
    let position: String

    /// A participant that fails is named and left out; the yardstick may not fail.
    func run() throws -> [Measurement] {
        var samples = [[Sample]](repeating: [], count: participants.count)
        var failed = Set<Int>()
        for round in 0..<runs {
            Harness.progress("\(position)\(suite).\(testCase.name): round \(round + 1) of \(runs)")
            for turn in participants.indices {
                let index = (turn + round) % participants.count
                guard !failed.contains(index) else { continue }
                do {
                    samples[index].append(try participants[index].sample(operations: operations))
                } catch  where index > 0 && participants[index].name != "linuxevent" {
                    Harness.progress("\(suite).\(testCase.name): without \(participants[index].name): \(error)")
                    failed.insert(index)
                }
            }
        }
        return testCase.readings.flatMap { reading in
            participants.indices.compactMap { index in
                failed.contains(index) ? nil : measurement(reading, index, samples)
            }
        }
    }

    private func measurement(_ reading: Reading, _ index: Int, _ samples: [[Sample]]) -> Measurement? {
        let values = samples[index].compactMap(reading.value)
        guard values.count == runs else { return nil }
        let statistics = Statistics(values)
        let yardstick = participants[0].name == "raw" ? samples[0].compactMap(reading.value) : []
        let pairs = zip(values, yardstick).filter { $0.1 > 0 }.map { $0.0 / $0.1 }
        let ratios = pairs.isEmpty ? nil : Statistics(pairs)
        return Measurement(
            suite: suite, testCase: testCase.name + reading.suffix, subject: participants[index].name,
            unit: reading.unit, value: statistics.median, min: statistics.min, max: statistics.max,
            ratio: ratios?.median ?? .nan, ratioLow: ratios?.lowerQuartile ?? .nan,
            ratioHigh: ratios?.upperQuartile ?? .nan, runs: runs,
            lowerIsBetter: reading.lowerIsBetter, notes: reading.suffix.isEmpty ? medianNotes(samples[index]) : [:])
    }

    private func medianNotes(_ samples: [Sample]) -> [String: Double] {
        var notes = [String: Double]()
        for name in Set(samples.flatMap { $0.notes.map(\.name) }) {
            let values = samples.flatMap { $0.notes.filter { $0.name == name }.map { Double($0.value) } }
            notes[name] = Statistics(values).median
        }
        return notes
    }
}
