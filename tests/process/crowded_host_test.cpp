// SPDX-License-Identifier: BSL-1.0
// More descriptors on their way in unread messages than a user may have (unix(7), ETOOMANYREFS):
// what passes is waited for, and nothing is lost for it.
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <stdexcept>
#include <thread>
#include <vector>

#include "tests/process/support.hpp"
#include "tests/process/workshop.hpp"

namespace {

using namespace carom::test;
using namespace std::chrono_literals;
using carom::file_descriptor;
using carom::start_method;

/// The limit does not hold for who may set it: another user does not.
void limit_descriptors(rlim_t now, rlim_t most) {
  const rlimit limit{now, most};
  if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) throw std::runtime_error("setrlimit");
}

void be_nobody(rlim_t descriptors, rlim_t most) {
  constexpr unsigned nobody = 65534;
  if (::geteuid() == 0 && (::setgid(nobody) != 0 || ::setuid(nobody) != 0))
    throw std::runtime_error("setuid");
  ::prctl(PR_SET_DUMPABLE, 1);
  limit_descriptors(descriptors, most);
}

/// Messages with descriptors that nobody reads, until the kernel takes no more, or as many as
/// wanted; gone with this.
class crowd {
 public:
  explicit crowd(int wanted = 1 << 20) {
    for (auto& ends : pairs_) {
      if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0)
        throw std::runtime_error("socketpair");
      for (int error = 0; error == 0 && under_way_ != wanted; under_way_ += error == 0) {
        error = send(ends[0]);
        full_ = full_ || error == ETOOMANYREFS;
      }
    }
  }
  crowd(const crowd&) = delete;
  crowd& operator=(const crowd&) = delete;
  ~crowd() {
    for (const auto& ends : pairs_)
      for (const int end : ends) ::close(end);
  }
  bool full() const { return full_; }

 private:
  static int send(int to) {
    char byte = 'x';
    iovec part{&byte, 1};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    header.msg_control = control.data();
    header.msg_controllen = control.size();
    cmsghdr* const rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    const int passed = STDERR_FILENO;
    std::memcpy(CMSG_DATA(rights), &passed, sizeof passed);
    return ::sendmsg(to, &header, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? errno : 0;
  }

  std::array<std::array<int, 2>, 16> pairs_{};
  int under_way_ = 0;
  bool full_ = false;
};

file_descriptor null_device() { return file_descriptor(::open("/dev/null", O_RDONLY | O_CLOEXEC)); }
bool is_open(const file_descriptor& one) { return ::fcntl(one.get(), F_GETFD) >= 0; }

const helper_program pool_in_a_crowd("pool_in_a_crowd", [](const helper_program::arguments&) {
  be_nobody(128, 256);
  // Copies of this process, which are nobody too.
  carom::pool pool{{.processes = 1, .start_method = start_method::fork}};
  if (pool.apply(square, 3) != 9) return 1;
  carom::async_result<file_descriptor> result;
  carom::async_result<bool> argument;
  carom::async_result<int> plain;
  {
    // Far more than the worker's limit: messages of the servers, which are nobody too, are on their
    // way and count until they are read.
    limit_descriptors(256, 256);
    const crowd others;
    limit_descriptors(128, 256);
    if (!others.full()) return 2;
    result = pool.apply_async(null_device);
    while (result.worker_pid() == 0) let_pass(1ms);
    // Behind it: a worker reads what has been sent ahead of a task before it begins another.
    argument = pool.apply_async(is_open, null_device());
    plain = pool.apply_async(square, 4);
    if (result.ready()) return 3;
  }
  if (!is_open(result.get()) || !argument.get() || plain.get() != 16) return 4;
  return pool.metrics().died_workers == 0 ? 0 : 5;
});

const helper_program connection_in_a_crowd("connection_in_a_crowd",
                                           [](const helper_program::arguments&) {
                                             be_nobody(2000, 2000);
                                             auto [to, from] = carom::pipe();
                                             // More than one message may carry: the second part
                                             // finds no room.
                                             std::vector<file_descriptor> many;
                                             for (int i = 0; i != 400; ++i)
                                               many.push_back(null_device());
                                             std::atomic<bool> sent{false};
                                             std::jthread sender;
                                             {
                                               // The first 253 find room, the others do not.
                                               const crowd others(1800);
                                               if (others.full()) return 1;
                                               sender = std::jthread([&, &to = to] {
                                                 to.send(many);
                                                 sent = true;
                                               });
                                               while (!from.poll(0ms)) let_pass(1ms);
                                               if (sent) return 4;
                                             }
                                             if (from.recv<std::vector<file_descriptor>>().size() !=
                                                 many.size())
                                               return 2;
                                             sender.join();
                                             to.send(7);
                                             return from.recv<int>() == 7 ? 0 : 3;
                                           });

}  // namespace

TEST_F(Failures, 19_a_pool_waits_until_descriptors_may_travel_again) {
  EXPECT_EQ(result_of(pool_in_a_crowd), 0);
}

TEST_F(Failures, 19_a_connection_waits_until_descriptors_may_travel_again) {
  EXPECT_EQ(result_of(connection_in_a_crowd), 0);
}
