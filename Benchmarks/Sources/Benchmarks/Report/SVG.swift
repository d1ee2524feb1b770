import Glibc

/// Text that HTML and SVG take as text.
func escaped(_ text: String) -> String {
    var result = ""
    for scalar in text.unicodeScalars {
        switch scalar {
        case "&": result += "&amp;"
        case "<": result += "&lt;"
        case ">": result += "&gt;"
        case "\"": result += "&quot;"
        case "'": result += "&#39;"
        case _ where scalar.value < 32: result += " "
        default: result.unicodeScalars.append(scalar)
        }
    }
    return result
}

/// A drawing as wide as its place, in units that are about a pixel on a phone.
struct SVG {
    static let width = 380.0
    let height: Double
    let label: String
    private var body = ""

    enum Anchor: String { case start, middle, end }
    enum Mark { case disc, square, diamond, triangle, ring, cross }

    init(height: Double, label: String) {
        self.height = height
        self.label = label
    }

    var markup: String {
        let name = escaped(label)
        return """
            <svg viewBox="0 0 \(Self.number(Self.width)) \(Self.number(height))" width="100%" role="img" \
            aria-label="\(name)"><title>\(name)</title>\(body)</svg>
            """
    }

    mutating func line(_ x1: Double, _ y1: Double, _ x2: Double, _ y2: Double, _ style: String) {
        body += "<path class=\"\(style)\" d=\"M\(Self.point(x1, y1))L\(Self.point(x2, y2))\"/>"
    }

    mutating func lines(_ points: [(x: Double, y: Double)], _ style: String) {
        let path = points.map { Self.point($0.x, $0.y) }.joined(separator: "L")
        body += "<path class=\"\(style)\" d=\"M\(path)\"/>"
    }

    mutating func rectangle(_ x: Double, _ y: Double, _ width: Double, _ height: Double, _ style: String) {
        body += """
            <rect class="\(style)" x="\(Self.number(x))" y="\(Self.number(y))" width="\(Self.number(max(width, 0)))" \
            height="\(Self.number(height))"/>
            """
    }

    mutating func mark(_ mark: Mark, _ x: Double, _ y: Double, _ radius: Double, _ style: String) {
        let r = radius
        switch mark {
        case .disc, .ring:
            let hollow = mark == .ring ? " hollow" : ""
            body += """
                <circle class="\(style)\(hollow)" cx="\(Self.number(x))" cy="\(Self.number(y))" r="\(Self.number(r))"/>
                """
        case .square:
            rectangle(x - r * 0.9, y - r * 0.9, r * 1.8, r * 1.8, style)
        case .diamond:
            polygon([(x, y - r * 1.3), (x + r * 1.3, y), (x, y + r * 1.3), (x - r * 1.3, y)], style)
        case .triangle:
            polygon([(x, y - r * 1.2), (x + r * 1.15, y + r * 0.9), (x - r * 1.15, y + r * 0.9)], style)
        case .cross:
            line(x - r, y - r, x + r, y + r, style)
            line(x - r, y + r, x + r, y - r, style)
        }
    }

    private mutating func polygon(_ points: [(Double, Double)], _ style: String) {
        let path = points.map { Self.point($0.0, $0.1) }.joined(separator: "L")
        body += "<path class=\"\(style)\" d=\"M\(path)Z\"/>"
    }

    mutating func text(_ text: String, _ x: Double, _ y: Double, _ anchor: Anchor = .start, _ style: String = "") {
        let name = anchor == .start ? "" : anchor == .end ? "e" : "m"
        let styles = [style, name].filter { !$0.isEmpty }.joined(separator: " ")
        let attribute = styles.isEmpty ? "" : " class=\"\(styles)\""
        body += "<text\(attribute) x=\"\(Self.number(x))\" y=\"\(Self.number(y))\">\(escaped(text))</text>"
    }

    /// What is drawn inside belongs together and explains itself to a pointer that rests on it.
    mutating func group(_ title: String, _ draw: (inout SVG) -> Void) {
        body += "<g><title>\(escaped(title))</title>"
        draw(&self)
        body += "</g>"
    }

    private static func point(_ x: Double, _ y: Double) -> String { "\(number(x)) \(number(y))" }

    /// One digit after the point will do.
    private static func number(_ value: Double) -> String {
        guard value.isFinite else { return "0" }
        let tenths = (value * 10).rounded() / 10
        return tenths == tenths.rounded() ? "\(Int(tenths))" : "\(tenths)"
    }
}

/// From figures to places on an axis.
struct Scale {
    let low: Double
    let high: Double
    let logarithmic: Bool
    /// Where the axis begins and ends in the drawing.
    let from: Double
    let to: Double

    func place(_ value: Double) -> Double {
        let clamped = min(max(value, low), high)
        let share =
            logarithmic ? log(clamped / low) / log(high / low) : (clamped - low) / (high - low)
        return from + (to - from) * share
    }

    /// Round figures, so few that their places are at least so far apart.
    func ticks(apart distance: Double) -> [Double] { logarithmic ? powers(distance) : steps(distance) }

    private func steps(_ distance: Double) -> [Double] {
        let least = (high - low) * distance / abs(to - from)
        let rough = max(least, (high - low) / 5)
        let size = pow(10, floor(log10(rough)))
        let step = [1, 2, 5, 10].map { $0 * size }.first { $0 >= rough * 0.999 } ?? size
        return Array(stride(from: (low / step).rounded(.up) * step, through: high * 1.000001, by: step))
    }

    /// 1, 2 and 5 of every power of ten, or 1 and 3, or 1, or not of every power.
    private func powers(_ distance: Double) -> [Double] {
        let exponents = Int(floor(log10(low)))...Int(ceil(log10(high)))
        let decade = abs(to - from) / log10(high / low)
        func all(_ factors: [Double], every: Int = 1) -> [Double] {
            exponents.filter { $0 % every == 0 }.flatMap { exponent in factors.map { Self.power(exponent) * $0 } }
                .filter { $0 >= low * 0.999 && $0 <= high * 1.001 }
        }
        if decade * log10(2) >= distance { return all([1, 2, 5]) }
        if decade * log10(3) >= distance { return all([1, 3]) }
        return all([1], every: max(Int((distance / decade).rounded(.up)), 1))
    }

    private static func power(_ exponent: Int) -> Double {
        exponent < 0 ? 1 / pow(10, Double(-exponent)) : pow(10, Double(exponent))
    }
}
