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
    ],
    targets: [
        // What Swift cannot say: headers that Glibc lacks, macros, calls behind _GNU_SOURCE. No policy.
        .target(name: "CLinux"),
        // The loop. Everything that runs per event is in this one module.
        .target(name: "LinuxEvent", dependencies: ["CLinux"], swiftSettings: strict),
    ]
)
