/* How fast the kernel alone moves one file from N senders to N receivers over loopback TCP, each receiver storing a copy.
 *
 * One process per end and nothing but system calls: no framing, no digest, no names, no commit. What a transfer program on top
 * of the same kernel can hope for is the best of the paths that store; `discard` drops the bytes and shows what storing costs.
 *
 *   ceiling SOURCE FOLDER CLIENTS [ROUNDS [PATH]]
 *
 * Prints one JSON object a line, for each path its fastest round and then the best path that stores. mb_per_s is 10^6 bytes
 * of payload a second from before the first connection until the last process has ended; cpu_s is what all of them used.
 * A path that this kernel or file system does not have is reported on stderr and left out. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* include/uapi/linux/fs.h, since Linux 6.14; the C library's headers may be older. */
#ifndef RWF_DONTCACHE
#define RWF_DONTCACHE 0x80
#endif

#define CLIENTS_MAX 1000
#define SEND_BYTES (4u << 20)    /* handed to one sendfile(2) */
#define RECEIVE_BYTES (1u << 20) /* gathered before a write */
#define DIRECT_ALIGN_BYTES 4096u /* what O_DIRECT asks of lengths and addresses on common disks */

struct path {
  const char *name;
  bool stores, preallocates;
  int open_flags, write_flags;
};

static const struct path PATHS[] = {
    {"discard", false, false, 0, 0},
    {"plain", true, false, 0, 0},
    {"prealloc", true, true, 0, 0},
    {"dontcache", true, true, 0, RWF_DONTCACHE},
    {"direct", true, true, O_DIRECT, 0},
};

struct result {
  double mb_per_s, cpu_s;
};

struct job {
  const char *source, *folder;
  off_t size_bytes;
  int clients;
};

/* Any failure ends the process that meets it; its peer then sees a closed connection and ends, too. */
static void need(bool ok, const char *what) {
  if (ok) return;
  perror(what);
  _exit(EXIT_FAILURE);
}

static double wall_clock_s(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static double timeval_s(struct timeval t) { return (double)t.tv_sec + (double)t.tv_usec / 1e6; }

static double children_cpu_s(void) {
  struct rusage used;
  getrusage(RUSAGE_CHILDREN, &used);
  return timeval_s(used.ru_utime) + timeval_s(used.ru_stime);
}

static void copy_path(char *out, size_t out_bytes, const struct job *job, int client) {
  snprintf(out, out_bytes, "%s/copy.%d", job->folder, client);
}

static void send_file(const struct job *job, const struct sockaddr_in *receiver) {
  int file = open(job->source, O_RDONLY);
  need(file >= 0, job->source);
  int sock = socket(AF_INET, SOCK_STREAM, 0);
  need(sock >= 0, "socket");
  need(connect(sock, (const struct sockaddr *)receiver, sizeof *receiver) == 0, "connect");
  for (off_t sent = 0; sent < job->size_bytes;) {
    off_t left = job->size_bytes - sent;
    need(sendfile(sock, file, &sent, left > SEND_BYTES ? SEND_BYTES : (size_t)left) > 0, "sendfile");
  }
  char stored;
  need(recv(sock, &stored, 1, 0) == 1, "acknowledgement");
}

static void receive_file(const struct job *job, const struct path *path, int listener, int client) {
  int sock = accept(listener, NULL, NULL);
  need(sock >= 0, "accept");
  int file = -1;
  if (path->stores) {
    char name[4096];
    copy_path(name, sizeof name, job, client);
    file = open(name, O_RDWR | O_CREAT | O_EXCL | path->open_flags, 0644);
    need(file >= 0, name);
  }
  if (path->preallocates) need(fallocate(file, 0, 0, job->size_bytes) == 0, "fallocate");
  /* Faulted in beforehand, and page-aligned as O_DIRECT wants it. */
  void *buffer =
      mmap(NULL, RECEIVE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  need(buffer != MAP_FAILED, "mmap");
  bool direct = path->open_flags & O_DIRECT;
  for (off_t received = 0; received < job->size_bytes;) {
    off_t left = job->size_bytes - received;
    ssize_t got = recv(sock, buffer, left > RECEIVE_BYTES ? RECEIVE_BYTES : (size_t)left, MSG_WAITALL);
    need(got > 0, "recv");
    if (path->stores) {
      size_t length = (size_t)got;
      if (direct) length = (length + DIRECT_ALIGN_BYTES - 1) / DIRECT_ALIGN_BYTES * DIRECT_ALIGN_BYTES;
      struct iovec bytes = {.iov_base = buffer, .iov_len = length};
      need(pwritev2(file, &bytes, 1, received, path->write_flags) == (ssize_t)length, path->name);
    }
    received += got;
  }
  if (direct) need(ftruncate(file, job->size_bytes) == 0, "ftruncate");
  need(send(sock, "", 1, 0) == 1, "acknowledgement");
}

static int listen_on_loopback(struct sockaddr_in *address) {
  *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof *address;
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  need(listener >= 0, "socket");
  need(bind(listener, (struct sockaddr *)address, length) == 0, "bind");
  need(listen(listener, CLIENTS_MAX) == 0, "listen");
  need(getsockname(listener, (struct sockaddr *)address, &length) == 0, "getsockname");
  return listener;
}

/* One round. False if a sender or receiver failed. */
static bool race(const struct job *job, const struct path *path, struct result *result) {
  struct sockaddr_in address;
  int listener = listen_on_loopback(&address);
  bool failed = false;
  double cpu_before_s = children_cpu_s(), start_s = wall_clock_s();
  for (int end = 0; end < 2 * job->clients && !failed; end++) {
    pid_t child = fork();
    if (child == 0) {
      if (end % 2 == 0) receive_file(job, path, listener, end / 2);
      else send_file(job, &address);
      _exit(EXIT_SUCCESS);
    }
    failed = child < 0;
  }
  for (int status;;) {
    /* Receivers whose sender is gone would wait for it for ever. */
    if (failed) shutdown(listener, SHUT_RDWR);
    if (wait(&status) < 0) break;
    failed |= status != 0;
  }
  double elapsed_s = wall_clock_s() - start_s;
  *result = (struct result){
      .mb_per_s = (double)job->size_bytes * job->clients / elapsed_s / 1e6,
      .cpu_s = children_cpu_s() - cpu_before_s,
  };
  close(listener);
  for (int client = 0; path->stores && client < job->clients; client++) {
    char name[4096];
    copy_path(name, sizeof name, job, client);
    unlink(name);
  }
  return !failed;
}

int main(int argc, char **argv) {
  struct stat source;
  struct job job = {
      .source = argc > 1 ? argv[1] : "",
      .folder = argc > 2 ? argv[2] : "",
      .clients = argc > 3 ? atoi(argv[3]) : 0,
  };
  int rounds = argc > 4 ? atoi(argv[4]) : 3;
  const char *only = argc > 5 ? argv[5] : NULL;
  bool reported = false;
  if (job.clients < 1 || job.clients > CLIENTS_MAX || rounds < 1) {
    fprintf(stderr, "usage: ceiling SOURCE FOLDER CLIENTS [ROUNDS [PATH]], with 1 to %d clients\n", CLIENTS_MAX);
    return 2;
  }
  need(stat(job.source, &source) == 0, job.source);
  job.size_bytes = source.st_size;

  const struct path *best_path = NULL;
  double best_mb_per_s = 0;
  setvbuf(stdout, NULL, _IOLBF, 0);
  for (size_t i = 0; i < sizeof PATHS / sizeof *PATHS; i++) {
    const struct path *path = &PATHS[i];
    if (only && strcmp(only, path->name) != 0) continue;
    struct result fastest = {0}, result;
    bool works = true;
    for (int round = 0; round < rounds && works; round++) {
      works = race(&job, path, &result);
      if (result.mb_per_s > fastest.mb_per_s) fastest = result;
    }
    if (!works) continue;
    printf("{\"path\":\"%s\",\"clients\":%d,\"mb_per_s\":%.0f,\"cpu_s\":%.2f}\n", path->name, job.clients,
           fastest.mb_per_s, fastest.cpu_s);
    reported = true;
    if (path->stores && fastest.mb_per_s > best_mb_per_s) best_path = path, best_mb_per_s = fastest.mb_per_s;
  }
  if (best_path) {
    printf("{\"best\":\"%s\",\"clients\":%d,\"mb_per_s\":%.0f}\n", best_path->name, job.clients, best_mb_per_s);
  }
  if (!reported) fprintf(stderr, "ceiling: no path %s could be measured\n", only ? only : "at all");
  return reported ? EXIT_SUCCESS : EXIT_FAILURE;
}
