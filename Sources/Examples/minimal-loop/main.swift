// The smallest loop: one pipe, one watcher. Prints what comes through the pipe, and ends with it.

import ExampleSupport
import LinuxEvent

let pipe = try makePipe()
let loop = try Loop()
let buffer = Bytes(count: 512)

try loop.watch(
    pipe.read,
    read: { loop, descriptor, watcher in
        let count = buffer.read(from: descriptor)
        if count > 0 {
            say("read \(count) bytes: \(buffer.text(count))")
        } else if count == 0 {
            // The end of the pipe stays readable for ever: a watcher that is not cancelled would be called again.
            say("end of the pipe")
            watcher.cancel()
            loop.stop()
        }
    })

// A deferred block runs before the next wait: by then the loop is running.
loop.defer { _ in
    _ = write("hello, loop", to: pipe.write)
    closeDescriptor(pipe.write)
}

try loop.run()

// The loop closes its own descriptors only. Ours are ours.
closeDescriptor(pipe.read)
