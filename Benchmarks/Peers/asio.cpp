// Boost.Asio: its objects with the executor's type spelled out, which spares them a call through a base class for each
// operation. Where one thread has the io_context for itself, the hint UNSAFE takes its locks away.
//
// An asynchronous operation is one wait, so a handler that wants to hear more starts the next. That makes
// dispatch.level and churn.oneshot the same work here.
#include "peer.h"

// Before Asio, which uses it and does not ask for it.
#include <utility>

#include <array>
#include <boost/asio.hpp>
#include <boost/version.hpp>
#include <chrono>
#include <deque>
#include <memory>
#include <string>
#include <vector>

namespace asio = boost::asio;
using boost::system::error_code;

namespace {

using Executor = asio::io_context::executor_type;
using Descriptor = asio::posix::stream_descriptor::rebind_executor<Executor>::other;
using Timer = asio::steady_timer::rebind_executor<Executor>::other;
using Acceptor = asio::ip::tcp::acceptor::rebind_executor<Executor>::other;
using Connection = asio::ip::tcp::socket::rebind_executor<Executor>::other;
using Pair = asio::local::stream_protocol::socket::rebind_executor<Executor>::other;

/// Of one thread alone.
struct Context : asio::io_context {
    Context() : asio::io_context(BOOST_ASIO_CONCURRENCY_HINT_UNSAFE) {}
};

void check(const char *what, const error_code &error) {
    if (error) peer_fail("%s: %s", what, error.message().c_str());
}

/// What an operation says that was cancelled, and no other.
void check_cancelled(const error_code &error) {
    if (error != asio::error::operation_aborted) peer_fail("nothing came, but a handler was called");
}

/// A descriptor that stays the case's. They live in deques: with an executor of one's own, 1.74 cannot move them.
struct Borrowed : Descriptor {
    using Descriptor::Descriptor;

    ~Borrowed() {
        if (is_open()) release();
    }
};

// MARK: dispatch

struct Station {
    asio::io_context &context;
    Borrowed from;
    const peer_station &station;
    char byte = 0;

    Station(asio::io_context &context, const peer_station &station)
        : context(context), from(context, station.from), station(station) {}

    void wait() {
        from.async_read_some(asio::buffer(&byte, 1), [this](const error_code &error, std::size_t) {
            check("async_read_some", error);
            peer_require(write(station.to, &byte, 1) == 1, "write to a pipe");
            if (peer_count(station.progress)) context.stop();
            wait();
        });
    }
};

void ring(peer_run *run) {
    peer_ring ring;
    peer_ring_open(&ring, run);
    {
        Context context;
        std::deque<Station> stations;
        for (int index = 0; index < ring.size; index++) stations.emplace_back(context, ring.stations[index]);
        for (auto &station : stations) station.wait();
        auto start = craw_now();
        context.run();
        peer_done(run, ring.progress.count, start);
    }
    peer_ring_close(&ring);
}

struct Ready {
    asio::io_context &context;
    Borrowed descriptor;
    peer_progress &progress;

    Ready(asio::io_context &context, int descriptor, peer_progress &progress)
        : context(context), descriptor(context, descriptor), progress(progress) {}

    void wait() {
        descriptor.async_wait(Descriptor::wait_read, [this](const error_code &error) {
            check("async_wait", error);
            if (peer_count(&progress)) context.stop();
            wait();
        });
    }
};

void level(peer_run *run) {
    peer_progress progress = {0, run->operations, nullptr};
    int *descriptors = peer_eventfds(run->size, 1);
    {
        Context context;
        std::deque<Ready> all;
        for (int index = 0; index < run->size; index++) all.emplace_back(context, descriptors[index], progress);
        for (auto &ready : all) ready.wait();
        auto start = craw_now();
        context.run();
        peer_done(run, progress.count, start);
    }
    peer_close(descriptors, run->size);
}

// MARK: churn

/// The objects stay: to watch is async_wait(), to unwatch is cancel(), whose handlers run in the turn after it.
void watch(peer_run *run) {
    int *descriptors = peer_eventfds(run->size, 0);
    {
        Context context;
        auto work = asio::make_work_guard(context);
        std::deque<Borrowed> all;
        for (int index = 0; index < run->size; index++) all.emplace_back(context, descriptors[index]);
        uint64_t pairs = 0, cancelled = 0, start = craw_now();
        for (; pairs < run->operations; pairs += all.size()) {
            for (auto &descriptor : all) {
                descriptor.async_wait(Descriptor::wait_read, [&cancelled](const error_code &error) {
                    check_cancelled(error);
                    cancelled++;
                });
            }
            context.poll();
            for (auto &descriptor : all) descriptor.cancel();
            context.poll();
        }
        peer_done(run, pairs, start);
        peer_require(cancelled == pairs, "a wait was not cancelled");
    }
    peer_close(descriptors, run->size);
}

// MARK: timers

std::vector<Timer> make_timers(asio::io_context &context, uint64_t count) {
    std::vector<Timer> timers;
    timers.reserve(count);
    for (uint64_t index = 0; index < count; index++) timers.emplace_back(context);
    return timers;
}

template <class Handler>
void start_timer(Timer &timer, uint64_t nanoseconds, Handler handler) {
    // This alone cancels a wait that is under way.
    timer.expires_after(std::chrono::nanoseconds(nanoseconds));
    timer.async_wait(handler);
}

/// The handlers of cancelled waits run in the next turn, which is a part of the work.
void cancel(peer_run *run) {
    Context context;
    auto work = asio::make_work_guard(context);
    auto live = peer_live(run);
    auto timers = make_timers(context, live);
    std::unique_ptr<uint32_t[], decltype(&free)> order(peer_order(run), free);
    uint64_t cancelled = 0;
    auto handler = [&cancelled](const error_code &error) {
        check_cancelled(error);
        cancelled++;
    };
    uint64_t random = PEER_SEED, pairs = 0, start = craw_now();
    for (; pairs < run->operations; pairs += live) {
        for (auto &timer : timers) start_timer(timer, peer_delay(&random), handler);
        for (uint32_t index = 0; index < live; index++) timers[order[index]].cancel();
        context.poll();
    }
    peer_done(run, pairs, start);
    peer_require(cancelled == pairs, "a timer was not cancelled");
}

void reset(peer_run *run) {
    // As many a turn, so that the handlers of what was cancelled do not pile up.
    const uint64_t burst = 64;
    Context context;
    auto work = asio::make_work_guard(context);
    auto timers = make_timers(context, run->size);
    // Where this takes longer than a second, some timers fire in between.
    uint64_t ended = 0, random = PEER_SEED;
    auto handler = [&ended](const error_code &) { ended++; };
    for (auto &timer : timers) start_timer(timer, peer_delay(&random), handler);
    auto start = craw_now();
    for (uint64_t resets = 0; resets < run->operations; resets++) {
        auto &timer = timers[craw_random(&random) % timers.size()];
        start_timer(timer, peer_delay(&random), handler);
        if (resets % burst == burst - 1) context.poll();
    }
    context.poll();
    peer_done(run, run->operations, start);
    peer_require(ended >= run->operations, "a wait did not end when its timer was reset");
}

void fire(peer_run *run) {
    Context context;
    auto timers = make_timers(context, run->operations);
    uint64_t fired = 0;
    auto began = peer_fire_begin();
    auto now = asio::steady_timer::clock_type::now();
    for (uint64_t index = 0; index < timers.size(); index++) {
        auto &timer = timers[index];
        timer.expires_at(now + std::chrono::nanoseconds(peer_due(index, timers.size())));
        timer.async_wait([&fired](const error_code &error) {
            check("async_wait", error);
            fired++;
        });
    }
    // Until there is no timer left.
    context.run();
    peer_fire_end(run, &began, fired);
}

// MARK: post and pingpong

/// The hint 1 says that one thread runs it; others may post. An io_context that never had anything to wait for sleeps
/// on a condition variable and hears nothing but posts: the timer makes it a loop, which sleeps in epoll_wait().
struct Mailbox {
    asio::io_context context{1};
    Timer timer{context, std::chrono::hours(1)};
    peer_side *side;

    explicit Mailbox(peer_side *side) : side(side) {
        timer.async_wait([](const error_code &) {});
    }

    void turn() {
        if (!peer_burst(side)) return;
        asio::post(context, [this] { turn(); });
    }
};

Mailbox *mailbox(void *loop) { return static_cast<Mailbox *>(loop); }

const peer_loops loops = {
    .open = [](peer_side *side) -> void * { return new Mailbox(side); },
    .post = [](void *loop, peer_work *work, void *context, uint64_t value) {
        asio::post(mailbox(loop)->context, [=] { work(context, value); });
    },
    .run = [](void *loop) {
        asio::post(mailbox(loop)->context, [loop] { mailbox(loop)->turn(); });
        mailbox(loop)->context.run();
    },
    .stop = [](void *loop) { mailbox(loop)->context.stop(); },
    .close = [](void *loop) { delete mailbox(loop); },
};

// MARK: echo and turn

/// Reads, writes and reads again, until the end of the file. The operation that is under way owns it.
template <class Socket, class Host>
struct Session {
    Socket socket;
    Host &host;
    std::array<char, PEER_BUFFER> bytes;

    Session(Socket socket, Host &host) : socket(std::move(socket)), host(host) {}

    static void read(std::unique_ptr<Session> own) {
        auto &session = *own;
        session.socket.async_read_some(
            asio::buffer(session.bytes), [own = std::move(own)](const error_code &error, std::size_t size) mutable {
                auto &host = own->host;
                if (error == asio::error::eof) {
                    own.reset();
                    host.closed();
                    return;
                }
                check("async_read_some", error);
                host.echoed();
                write(std::move(own), size);
            });
    }

    static void write(std::unique_ptr<Session> own, std::size_t size) {
        auto &session = *own;
        asio::async_write(session.socket, asio::buffer(session.bytes, size),
                          [own = std::move(own)](const error_code &error, std::size_t) mutable {
                              check("async_write", error);
                              read(std::move(own));
                          });
    }
};

struct Server {
    Context context;
    peer_service service;
    Acceptor acceptor{context};

    void accept() {
        acceptor.async_accept([this](const error_code &error, Connection connection) {
            check("async_accept", error);
            connection.set_option(asio::ip::tcp::no_delay(true));
            service.open++;
            using Echo = Session<Connection, Server>;
            Echo::read(std::make_unique<Echo>(std::move(connection), *this));
            accept();
        });
    }

    void echoed() {}

    void closed() {
        service.open--;
        stop_when_idle();
    }

    void stop_when_idle() {
        if (peer_service_idle(&service)) context.stop();
    }
};

void echo(peer_run *run) {
    Server server;
    peer_service_open(&server.service, run);
    server.acceptor.assign(asio::ip::tcp::v4(), server.service.listener);
    server.service.listener = -1;
    server.accept();
    Borrowed finished(server.context, server.service.finished);
    finished.async_wait(Descriptor::wait_read, [&server](const error_code &error) {
        check("async_wait", error);
        server.service.over = true;
        server.stop_when_idle();
    });
    server.context.run();
    finished.release();
    peer_service_close(&server.service, run);
}

struct Round {
    Context context;
    peer_pairs pairs;

    void echoed() { pairs.echoed++; }
    void closed() { peer_fail("a pair was closed"); }
};

void turn(peer_run *run) {
    Round round;
    auto &pairs = round.pairs;
    peer_pairs_open(&pairs, run->size);
    using Echo = Session<Pair, Round>;
    for (int index = 0; index < pairs.count; index++) {
        Pair near(round.context, asio::local::stream_protocol(), pairs.pairs[index].near);
        pairs.pairs[index].near = -1;
        Echo::read(std::make_unique<Echo>(std::move(near), round));
    }
    uint64_t messages = 0, start = craw_now();
    for (; messages < run->operations; messages += pairs.count) {
        peer_pairs_ask(&pairs);
        while (pairs.echoed < static_cast<uint64_t>(pairs.count)) round.context.poll();
        peer_pairs_hear(&pairs);
    }
    peer_done(run, messages, start);
    peer_pairs_close(&pairs);
}

// MARK: memory

// What was added stays where it is until the end of the program.

void memory_watcher(peer_run *run) {
    struct Growing {
        Context context;
        int *descriptors;
    };
    auto &growing = *new Growing{{}, peer_many_eventfds(run)};
    auto add = [](void *argument, uint64_t first, uint64_t count) {
        auto &growing = *static_cast<Growing *>(argument);
        auto &all = *new std::deque<Descriptor>;
        for (uint64_t index = 0; index < count; index++) {
            all.emplace_back(growing.context, growing.descriptors[first + index]);
            all.back().async_wait(Descriptor::wait_read, [](const error_code &error) { check_cancelled(error); });
        }
        growing.context.poll();
    };
    peer_grow(run, add, &growing);
}

void memory_timer(peer_run *run) {
    auto add = [](void *argument, uint64_t, uint64_t count) {
        auto &context = *static_cast<Context *>(argument);
        auto &all = *new std::deque<Timer>;
        for (uint64_t index = 0; index < count; index++) {
            all.emplace_back(context, std::chrono::nanoseconds(PEER_HOUR));
            all.back().async_wait([](const error_code &error) { check_cancelled(error); });
        }
    };
    peer_grow(run, add, new Context);
}

const char *version() {
    static const std::string text = std::to_string(BOOST_VERSION / 100000) + "." +
                                    std::to_string(BOOST_VERSION / 100 % 1000) + "." +
                                    std::to_string(BOOST_VERSION % 100);
    return text.c_str();
}

}  // namespace

int main(int argc, char **argv) {
    static const peer_library library = {.name = "Boost.Asio",
                                         .version = version,
                                         .ring = ring,
                                         .level = level,
                                         .watch = watch,
                                         .oneshot = level,
                                         .cancel = cancel,
                                         .reset = reset,
                                         .fire = fire,
                                         .loops = &loops,
                                         .echo = echo,
                                         .turn = turn,
                                         .memory_watcher = memory_watcher,
                                         .memory_timer = memory_timer};
    return peer_main(&library, argc, argv);
}
