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
        .target(name: "CLinux"),
        // The loop. Everything that runs per event is in this one module.
        .target(name: "LinuxEvent", dependencies: ["CLinux"], swiftSettings: strict),
        // The sharded runtime, on the loop's public surface.
        .target(
            name: "LinuxEventGroup",
            dependencies: ["CLinux", "LinuxEvent", .target(name: "CNuma", condition: .when(traits: ["NUMA"]))],
            swiftSettings: strict),
        .systemLibrary(name: "CNuma", pkgConfig: "numa", providers: [.apt(["libnuma-dev"])]),
    ]
)
