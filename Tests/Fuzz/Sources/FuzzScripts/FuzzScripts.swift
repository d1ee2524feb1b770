import ContractModel

/// One string of bytes, as libFuzzer has it: every string is a script, which is done on a loop and on the model.
///
/// Where the two part, the process ends with the script as text, and libFuzzer keeps the bytes.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzScript(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let script = Script(bytes: UnsafeBufferPointer(start: bytes, count: count))
    var situations = Situations()
    guard let divergence = Comparison.run(script, counting: &situations) else { return 0 }
    fatalError("\(divergence)\n\(script)\nLINUX_EVENT_SCRIPT=\(script.hex)")
}
