// swift-tools-version: 6.2
import PackageDescription

// The engine and the model of its contract, built for libFuzzer. A package of its own, and the same sources through
// links: users of the engine see nothing of it, and everything is built with the fuzzer's coverage.
let package = Package(
    name: "fuzz",
    products: [.library(name: "FuzzScripts", type: .static, targets: ["FuzzScripts"])],
    targets: [
        .target(name: "CLinux"),
        .target(name: "LinuxEvent", dependencies: ["CLinux"], exclude: ["LinuxEvent.docc"], swiftSettings: settings),
        .target(
            name: "TestSupport", dependencies: ["CLinux"], swiftSettings: [.swiftLanguageMode(.v6)]),
        .target(name: "ContractModel", dependencies: ["LinuxEvent", "TestSupport"], swiftSettings: settings),
        .target(name: "FuzzScripts", dependencies: ["ContractModel"], swiftSettings: settings),
    ]
)

var settings: [SwiftSetting] {
    [
        .swiftLanguageMode(.v6),
        .enableUpcomingFeature("ExistentialAny"),
        .enableUpcomingFeature("MemberImportVisibility"),
        .enableUpcomingFeature("InternalImportsByDefault"),
        .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
    ]
}
