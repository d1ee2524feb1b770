import TestSupport

/// One text file of the project.
struct SourceFile: CustomStringConvertible {
    /// From the project's folder on.
    let path: String
    let text: String

    var description: String { path }
    var lines: [Substring] { text.split(separator: "\n", omittingEmptySubsequences: false) }
    func isBelow(_ folder: String) -> Bool { path.hasPrefix(folder + "/") }
}

/// The project's own files, as they lie beside this one.
enum Tree {
    static let root: String = {
        let parts = String(#filePath).split(separator: "/").dropLast(3)
        return "/" + parts.joined(separator: "/")
    }()

    static let swift: [SourceFile] = files(in: ["Sources", "Tests", "Benchmarks/Sources"]) { $0.hasSuffix(".swift") }
    static let c: [SourceFile] = files(in: ["Sources", "Tests", "Benchmarks/Sources"]) {
        $0.hasSuffix(".c") || $0.hasSuffix(".h")
    }
    static let scripts: [SourceFile] = files(in: ["tools"]) { _ in true }
    static let guides: [SourceFile] =
        files(in: ["Sources", "Benchmarks", "Tests"]) { $0.hasSuffix(".md") } + [file("README.md"), file("Changes.md")]
    static var all: [SourceFile] { swift + c + scripts + guides }

    static func file(_ path: String) -> SourceFile { SourceFile(path: path, text: Files.text(root + "/" + path)) }

    private static func files(in folders: [String], where isWanted: (String) -> Bool) -> [SourceFile] {
        var found: [SourceFile] = []
        var waiting = folders
        while let folder = waiting.popLast() {
            for name in Files.names(in: root + "/" + folder) where !name.hasPrefix(".") {
                let path = folder + "/" + name
                if !Files.names(in: root + "/" + path).isEmpty {
                    waiting.append(path)
                } else if isWanted(name) {
                    found.append(file(path))
                }
            }
        }
        return found.sorted { $0.path < $1.path }
    }
}
