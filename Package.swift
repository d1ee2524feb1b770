// swift-tools-version: 6.2
import PackageDescription

let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .strictMemorySafety(),
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
]

// Tests touch raw memory on purpose; everything else is as strict.
let tests: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("InternalImportsByDefault"),
]

let strictC: [CSetting] = [
    .enableWarning("all"), .enableWarning("extra"), .treatAllWarnings(as: .error),
]

let package = Package(
    name: "linux-event",
    products: [
        .library(name: "LinuxEvent", targets: ["LinuxEvent"]),
        .library(name: "LinuxEventGroup", targets: ["LinuxEventGroup"]),
    ],
    traits: [
        .trait(name: "NUMA", description: "Memory of the shard's own node, by libnuma (libnuma-dev)."),
        .default(enabledTraits: ["NUMA"]),
    ],
    targets: [
        // What Swift cannot say: headers that Glibc lacks, macros, calls behind _GNU_SOURCE. No policy.
        .target(name: "CLinux", cSettings: strictC),
        // The loop. Everything that runs per event is in this one module.
        .target(name: "LinuxEvent", dependencies: ["CLinux"], swiftSettings: strict),
        // The sharded runtime, on the loop's public surface.
        .target(
            name: "LinuxEventGroup",
            dependencies: ["CLinux", "LinuxEvent", .target(name: "CNuma", condition: .when(traits: ["NUMA"]))],
            swiftSettings: strict),
        .systemLibrary(name: "CNuma", pkgConfig: "numa", providers: [.apt(["libnuma-dev"])]),

        .target(
            name: "ExampleSupport", dependencies: ["CLinux", "LinuxEvent"], path: "Sources/Examples/ExampleSupport",
            swiftSettings: strict),
        .example("minimal-loop", ["LinuxEvent"]),
        .example("timers", ["LinuxEvent"]),
        .example("cross-thread-waker", ["LinuxEvent"]),
        .example("posting", ["LinuxEvent", "LinuxEventGroup"]),
        .example("echo-service", ["LinuxEvent", "LinuxEventGroup"]),
        .example("echo-load", ["LinuxEvent"]),

        .target(name: "TestSupport", dependencies: ["CLinux"], path: "Tests/TestSupport", swiftSettings: tests),
        // What concerns a whole process, in a child of fork that runs nothing but C.
        .target(name: "CKernelFacts", path: "Tests/CKernelFacts"),
        // Several stacks on one thread, for the explorer of the lock-free algorithms.
        .target(name: "CExplorer", path: "Tests/CExplorer", cSettings: strictC),
        // The contract as a program, and scripts that are run on it and on a loop.
        .target(
            name: "ContractModel", dependencies: ["LinuxEvent", "TestSupport"], path: "Tests/ContractModel",
            swiftSettings: tests),
        .executableTarget(
            name: "signal-fixture", dependencies: ["CLinux", "LinuxEvent"], path: "Tests/Fixtures/signal-fixture",
            swiftSettings: tests),
        .executableTarget(
            name: "async-fixture", dependencies: ["LinuxEvent"], path: "Tests/Fixtures/async-fixture",
            swiftSettings: tests),
        .executableTarget(
            name: "budget-fixture", dependencies: ["CLinux", "LinuxEvent", "LinuxEventGroup"],
            path: "Tests/Fixtures/budget-fixture", swiftSettings: tests),
        .executableTarget(
            name: "leak-fixture", dependencies: ["CLinux", "LinuxEvent", "LinuxEventGroup"],
            path: "Tests/Fixtures/leak-fixture", swiftSettings: tests),
        .executableTarget(
            name: "plan-fixture", dependencies: ["CLinux", "LinuxEvent", "LinuxEventGroup"],
            path: "Tests/Fixtures/plan-fixture", swiftSettings: tests),
        .testTarget(name: "TidyTests", dependencies: ["TestSupport"], swiftSettings: tests),
        // What the kernel is relied on for. No engine here: where one of these fails, the ground has moved.
        .testTarget(
            name: "KernelFactTests", dependencies: ["CLinux", "CKernelFacts", "TestSupport"], swiftSettings: tests),
        .testTarget(
            name: "LinuxEventTests",
            dependencies: ["CLinux", "ContractModel", "LinuxEvent", "TestSupport", "async-fixture", "signal-fixture"],
            exclude: ["WrongPrograms"], swiftSettings: tests),
        .testTarget(
            name: "LinuxEventGroupTests",
            dependencies: [
                "CExplorer", "CLinux", "LinuxEvent", "LinuxEventGroup", "TestSupport", "echo-load", "plan-fixture",
            ],
            swiftSettings: tests),
    ]
)

// Documentation is made on demand, so that the packages of whoever uses this stay without it.
if Context.environment["LINUX_EVENT_DOCS"] != nil {
    package.dependencies.append(.package(url: "https://github.com/swiftlang/swift-docc-plugin", from: "1.5.0"))
}

extension Target {
    static func example(_ name: String, _ modules: [Target.Dependency]) -> Target {
        .executableTarget(
            name: name, dependencies: ["CLinux", "ExampleSupport"] + modules, path: "Sources/Examples/\(name)",
            swiftSettings: strict)
    }
}
