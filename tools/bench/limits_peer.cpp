// SPDX-License-Identifier: BSL-1.0
// What the machine gives without any library, or with the plainest one.
#include <pthread.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/interprocess/ipc/message_queue.hpp>
#include <cstring>
#include <stdexcept>
#include <thread>
#include <vector>

#include "process.hpp"
#include "self_peers.hpp"
#include "statistics.hpp"

namespace bench {

namespace {

namespace ipc = boost::interprocess;

constexpr std::size_t message_size = 64;
constexpr std::size_t payload_size = 8 << 20;

std::size_t count_of(const std::vector<double>& numbers) {
  if (numbers.empty() || numbers[0] < 1) throw std::invalid_argument("a count is needed");
  return static_cast<std::size_t>(numbers[0]);
}

void transfer(ssize_t done) {
  if (done != ssize_t(message_size)) throw std::runtime_error("a pipe broke");
}

double pipe_round_trip(std::size_t count) {
  pipe_ends there = make_pipe();
  pipe_ends back = make_pipe();
  const child_process echo = fork_child([&] {
    char bytes[message_size];
    for (;;) {
      transfer(::read(there.read.get(), bytes, sizeof bytes));
      transfer(::write(back.write.get(), bytes, sizeof bytes));
    }
  });
  char bytes[message_size]{};
  const auto round_trip = [&] {
    transfer(::write(there.write.get(), bytes, sizeof bytes));
    transfer(::read(back.read.get(), bytes, sizeof bytes));
  };
  for (int i = 0; i < 100; ++i) round_trip();
  const stopwatch watch;
  for (std::size_t i = 0; i < count; ++i) round_trip();
  return watch.microseconds() / static_cast<double>(count);
}

struct socket_pair {
  descriptor near, far;
  socket_pair() {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
      throw std::runtime_error("socketpair failed");
    near = descriptor(ends[0]);
    far = descriptor(ends[1]);
  }
};

double socket_round_trip(std::size_t count) {
  socket_pair pair;
  const child_process echo = fork_child([&] {
    char bytes[message_size];
    for (;;) {
      transfer(::read(pair.far.get(), bytes, sizeof bytes));
      transfer(::write(pair.far.get(), bytes, sizeof bytes));
    }
  });
  char bytes[message_size]{};
  const auto round_trip = [&] {
    transfer(::write(pair.near.get(), bytes, sizeof bytes));
    transfer(::read(pair.near.get(), bytes, sizeof bytes));
  };
  for (int i = 0; i < 100; ++i) round_trip();
  const stopwatch watch;
  for (std::size_t i = 0; i < count; ++i) round_trip();
  return watch.microseconds() / static_cast<double>(count);
}

/// Reads `size` bytes `count` times, as a child writes them; the seconds it took from the second
/// on.
double socket_stream(std::size_t size, std::size_t count) {
  socket_pair pair;
  const child_process writer = fork_child([&] {
    const std::vector<char> bytes(size, 'x');
    for (;;)
      for (std::size_t at = 0; at != size;) {
        const ssize_t done = ::write(pair.far.get(), bytes.data() + at, size - at);
        if (done <= 0) throw std::runtime_error("a socket broke");
        at += static_cast<std::size_t>(done);
      }
  });
  std::vector<char> bytes(size);
  const auto take = [&] {
    for (std::size_t at = 0; at != size;) {
      const ssize_t done = ::read(pair.near.get(), bytes.data() + at, size - at);
      if (done <= 0) throw std::runtime_error("a socket broke");
      at += static_cast<std::size_t>(done);
    }
  };
  take();
  const stopwatch watch;
  for (std::size_t i = 0; i < count; ++i) take();
  return watch.seconds();
}

/// A message queue under a name of its own, removed at once: children inherit the mapping.
class unnamed_queue {
 public:
  unnamed_queue(const char* purpose)
      : name_("carom-bench-" + std::to_string(::getpid()) + "-" + purpose),
        queue_(ipc::create_only, name_.c_str(), 1024, message_size) {
    ipc::message_queue::remove(name_.c_str());
  }
  ipc::message_queue* operator->() { return &queue_; }

 private:
  std::string name_;
  ipc::message_queue queue_;
};

double message_queue_loop(std::size_t count, int workers) {
  unnamed_queue tasks("tasks");
  unnamed_queue results("results");
  std::vector<child_process> children;
  for (int i = 0; i < workers; ++i)
    children.push_back(fork_child([&] {
      int bytes[message_size / sizeof(int)];
      ipc::message_queue::size_type size;
      unsigned priority;
      for (;;) {
        tasks->receive(bytes, sizeof bytes, size, priority);
        bytes[1] *= bytes[1];
        results->send(bytes, 8, 0);
      }
    }));
  const auto run = [&](std::size_t messages) {
    std::thread sender([&] {
      int bytes[2] = {0, 7};
      for (std::size_t i = 0; i < messages; ++i) tasks->send(bytes, sizeof bytes, 0);
    });
    char bytes[message_size];
    ipc::message_queue::size_type size;
    unsigned priority;
    for (std::size_t i = 0; i < messages; ++i)
      results->receive(bytes, sizeof bytes, size, priority);
    sender.join();
  };
  run(100);
  const stopwatch watch;
  run(count);
  return static_cast<double>(count) / watch.seconds();
}

/// Between buffers that together do not fit into a cache.
double copy_rate(std::size_t count) {
  constexpr std::size_t buffers = 16;
  const std::vector<char> from(buffers * payload_size, 'x');
  std::vector<char> to(buffers * payload_size, 'y');
  const stopwatch watch;
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t at = i % buffers * payload_size;
    std::memcpy(to.data() + at, from.data() + at, payload_size);
    asm volatile("" : : "r"(to.data()) : "memory");  // the copies are not to be optimized away
  }
  return static_cast<double>(count * payload_size) / watch.seconds() / 1e9;
}

/// A mutex that processes share, which does not survive its owner.
double plain_mutex(std::size_t count) {
  void* const at = ::mmap(nullptr, sizeof(pthread_mutex_t), PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) throw std::runtime_error("mmap failed");
  auto* const mutex = static_cast<pthread_mutex_t*>(at);
  pthread_mutexattr_t shared;
  ::pthread_mutexattr_init(&shared);
  ::pthread_mutexattr_setpshared(&shared, PTHREAD_PROCESS_SHARED);
  ::pthread_mutex_init(mutex, &shared);
  ::pthread_mutexattr_destroy(&shared);
  const stopwatch watch;
  for (std::size_t i = 0; i < count; ++i) {
    ::pthread_mutex_lock(mutex);
    ::pthread_mutex_unlock(mutex);
  }
  const double passed = watch.microseconds();
  ::munmap(at, sizeof(pthread_mutex_t));
  return passed / static_cast<double>(count);
}

double forks(std::size_t count) {
  std::vector<pid_t> children(count);
  const stopwatch watch;
  for (pid_t& child : children) {
    child = ::fork();
    if (child == 0) ::_exit(0);
    if (child < 0) break;
  }
  for (const pid_t child : children) {
    if (child < 0) throw std::runtime_error("fork failed");
    ::waitpid(child, nullptr, 0);
  }
  return watch.microseconds();
}

/// One after the other, each waited for.
double fork_and_wait(std::size_t count) {
  const stopwatch watch;
  for (std::size_t i = 0; i < count; ++i) {
    const pid_t child = ::fork();
    if (child == 0) ::_exit(0);
    if (child < 0) throw std::runtime_error("fork failed");
    ::waitpid(child, nullptr, 0);
  }
  return watch.microseconds() / static_cast<double>(count);
}

}  // namespace

int run_limits_peer(int workers) {
  return serve({
      {"pipe_rtt", [](const auto& numbers) { return pipe_round_trip(count_of(numbers)); }},
      {"socketpair_rtt", [](const auto& numbers) { return socket_round_trip(count_of(numbers)); }},
      {"socketpair_messages",
       [](const auto& numbers) {
         const std::size_t count = count_of(numbers);
         return static_cast<double>(count) / socket_stream(28, count);
       }},
      {"socketpair_bytes",
       [](const auto& numbers) {
         const std::size_t count = count_of(numbers);
         return static_cast<double>(count * payload_size) / socket_stream(payload_size, count) /
                1e9;
       }},
      {"message_queue",
       [=](const auto& numbers) { return message_queue_loop(count_of(numbers), workers); }},
      {"memcpy", [](const auto& numbers) { return copy_rate(count_of(numbers)); }},
      {"mutex", [](const auto& numbers) { return plain_mutex(count_of(numbers)); }},
      {"fork_wait", [](const auto& numbers) { return fork_and_wait(count_of(numbers)); }},
      {"forks", [](const auto& numbers) { return forks(count_of(numbers)); }},
  });
}

}  // namespace bench
