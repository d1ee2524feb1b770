// The load generator of the echo suite: one thread, one epoll, blocking waits. The same for all subjects.
#define _GNU_SOURCE
#include "CRaw.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MESSAGE = 64, PIPELINE_MAX = 64, BATCH = 256 };

struct connection {
    int descriptor;
    uint64_t sent, answered;         // messages
    uint64_t begun[PIPELINE_MAX];    // when each of those under way was written
    unsigned have;                   // bytes of an answer that is not whole yet
    char bytes[PIPELINE_MAX * MESSAGE];
};

struct craw_load {
    pthread_t thread;
    int port, connection_count, pipeline, cpu, finished, epoll, failure;
    uint64_t warm_up, total, sent, answered;
    uint64_t start, end;
    uint64_t *latencies;
    struct connection *connections;
};

/// Every byte depends on the connection and the number, so an answer that went astray is seen.
static void compose(char *message, uint64_t connection, uint64_t number) {
    uint64_t words[MESSAGE / sizeof(uint64_t)];
    for (unsigned index = 0; index < sizeof words / sizeof *words; index++) {
        words[index] = (number + 1) * 0x9e3779b97f4a7c15u + connection * 0x100000001b3u + index;
    }
    memcpy(message, words, sizeof words);
}

static int send_messages(struct craw_load *load, struct connection *connection, unsigned count) {
    char bytes[PIPELINE_MAX * MESSAGE];
    uint64_t number = (uint64_t)(connection - load->connections), now = craw_now();
    unsigned made = 0;
    for (; made < count && load->sent < load->total; made++, load->sent++, connection->sent++) {
        compose(&bytes[made * MESSAGE], number, connection->sent);
        connection->begun[connection->sent % PIPELINE_MAX] = now;
    }
    if (made == 0) return 0;
    // Some kilobytes fit into any socket's buffer.
    ssize_t written = send(connection->descriptor, bytes, made * MESSAGE, MSG_NOSIGNAL);
    return written == (ssize_t)(made * MESSAGE) ? 0 : written < 0 ? -errno : -EMSGSIZE;
}

static int check_answer(struct craw_load *load, struct connection *connection, const char *bytes, uint64_t now) {
    char expected[MESSAGE];
    compose(expected, (uint64_t)(connection - load->connections), connection->answered);
    if (memcmp(bytes, expected, MESSAGE) != 0) return -EILSEQ;
    if (load->answered == load->warm_up) load->start = now;
    if (load->answered >= load->warm_up) {
        uint64_t begun = connection->begun[connection->answered % PIPELINE_MAX];
        load->latencies[load->answered - load->warm_up] = now - begun;
    }
    connection->answered++;
    load->answered++;
    return 0;
}

static int receive(struct craw_load *load, struct connection *connection) {
    ssize_t count = read(connection->descriptor, &connection->bytes[connection->have],
                         sizeof connection->bytes - connection->have);
    if (count < 0) return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    if (count == 0) return -ECONNRESET;
    connection->have += (unsigned)count;
    unsigned whole = connection->have / MESSAGE;
    uint64_t now = craw_now();
    for (unsigned index = 0; index < whole; index++) {
        int failure = check_answer(load, connection, &connection->bytes[index * MESSAGE], now);
        if (failure != 0) return failure;
    }
    connection->have -= whole * MESSAGE;
    memmove(connection->bytes, &connection->bytes[whole * MESSAGE], connection->have);
    return send_messages(load, connection, whole);
}

static int open_connection(struct craw_load *load, struct connection *connection) {
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)load->port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1;
    connection->descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    if (connection->descriptor < 0 ||
        connect(connection->descriptor, (struct sockaddr *)&address, sizeof address) != 0 ||
        setsockopt(connection->descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0 ||
        epoll_ctl(load->epoll, EPOLL_CTL_ADD, connection->descriptor, &event) != 0) {
        return -errno;
    }
    return 0;
}

static int run(struct craw_load *load) {
    int failure = 0;
    for (int index = 0; failure == 0 && index < load->connection_count; index++) {
        failure = open_connection(load, &load->connections[index]);
    }
    for (int index = 0; failure == 0 && index < load->connection_count; index++) {
        failure = send_messages(load, &load->connections[index], (unsigned)load->pipeline);
    }
    struct epoll_event events[BATCH];
    while (failure == 0 && load->answered < load->total) {
        int count = epoll_wait(load->epoll, events, BATCH, -1);
        if (count < 0 && errno != EINTR) failure = -errno;
        for (int index = 0; failure == 0 && index < count; index++) failure = receive(load, events[index].data.ptr);
    }
    load->end = craw_now();
    return failure;
}

static void *load_main(void *argument) {
    struct craw_load *load = argument;
    load->failure = craw_pin(load->cpu);
    if (load->failure == 0) load->failure = run(load);
    for (int index = 0; index < load->connection_count; index++) {
        if (load->connections[index].descriptor >= 0) close(load->connections[index].descriptor);
    }
    // Also after a failure: who waits for it must not wait for ever.
    if (load->finished >= 0) eventfd_write(load->finished, 1);
    return NULL;
}

static void load_free(struct craw_load *load) {
    if (load->epoll >= 0) close(load->epoll);
    free(load->latencies);
    free(load->connections);
    free(load);
}

struct craw_load *craw_load_start(int port, int connections, int pipeline, uint64_t requests, int cpu, int finished) {
    if (pipeline < 1 || pipeline > PIPELINE_MAX || connections < 1 || requests < 1) return NULL;
    struct craw_load *load = malloc(sizeof *load);
    if (load == NULL) return NULL;
    *load = (struct craw_load){.port = port, .connection_count = connections, .pipeline = pipeline, .cpu = cpu,
                               .finished = finished, .warm_up = requests / 4, .total = requests / 4 + requests,
                               .epoll = epoll_create1(EPOLL_CLOEXEC)};
    load->latencies = calloc(requests, sizeof *load->latencies);
    load->connections = calloc((size_t)connections, sizeof *load->connections);
    if (load->epoll < 0 || load->latencies == NULL || load->connections == NULL) {
        load_free(load);
        return NULL;
    }
    for (int index = 0; index < connections; index++) load->connections[index].descriptor = -1;
    if (pthread_create(&load->thread, NULL, load_main, load) != 0) {
        load_free(load);
        return NULL;
    }
    return load;
}

int craw_load_finish(struct craw_load *load, struct craw_result *result, uint64_t *total) {
    pthread_join(load->thread, NULL);
    uint64_t measured = load->total - load->warm_up;
    *result = (struct craw_result){.operations = measured, .nanoseconds = load->end - load->start};
    *total = load->total;
    int failure = load->failure;
    if (failure == 0) craw_percentiles(load->latencies, measured, result);
    load_free(load);
    return failure;
}
