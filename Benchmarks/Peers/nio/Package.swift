// swift-tools-version: 6.2
import PackageDescription

// A package of its own, so that the benchmarks of the engine do not depend on SwiftNIO.

let package = Package(
    name: "peer-nio",
    dependencies: [
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.0")
    ],
    targets: [
        // A link to the yardsticks' sources: what the peers share is in there.
        .target(name: "CRaw"),
        .executableTarget(
            name: "peer-nio",
            dependencies: [
                "CRaw",
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
            ],
            swiftSettings: [
                .swiftLanguageMode(.v6),
                .treatAllWarnings(as: .error),
                .enableUpcomingFeature("ExistentialAny"),
                .enableUpcomingFeature("MemberImportVisibility"),
                .enableUpcomingFeature("InternalImportsByDefault"),
            ]),
    ]
)
