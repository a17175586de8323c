// SPDX-License-Identifier: BSL-1.0
// Records of workers, written by the host's logger: pool_options::forward_log.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spdlog/sinks/base_sink.h>
#include <sys/mman.h>
#include <unistd.h>

#include <carom/call.hpp>
#include <carom/errors.hpp>
#include <carom/file_descriptor.hpp>
#include <carom/log.hpp>
#include <carom/pool.hpp>
#include <carom/this_worker.hpp>
#include <chrono>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/pool/common.hpp"
#include "tests/support/board.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

using namespace std::chrono_literals;
using testing::IsEmpty;

namespace board = carom::test::board;
constexpr unsigned enough = 1;

using log_record = std::pair<int, std::string>;  // level, text

/// Keeps what the host's logger is told.
class book : public spdlog::sinks::base_sink<std::mutex> {
 public:
  std::vector<log_record> records() {
    std::lock_guard lock(mutex_);
    return records_;
  }

 private:
  void sink_it_(const spdlog::details::log_msg& one) override {
    records_.emplace_back(static_cast<int>(one.level),
                          std::string(one.payload.data(), one.payload.size()));
  }
  void flush_() override {}

  std::vector<log_record> records_;
};

/// The host's logger, for a test.
struct own_log {
  own_log() {
    auto logger = std::make_shared<spdlog::logger>("the host's", book_);
    logger->set_level(spdlog::level::info);
    carom::set_log(std::move(logger));
  }
  ~own_log() { carom::set_log(nullptr); }

  bool comes(const log_record& wanted) {
    return carom::test::eventually([&] {
      for (const log_record& one : records())
        if (one == wanted) return true;
      return false;
    });
  }

  std::vector<log_record> records() { return book_->records(); }

  std::shared_ptr<book> book_ = std::make_shared<book>();
};

void says(int level, const std::string& text) {
  carom::this_worker::log()->log(static_cast<spdlog::level::level_enum>(level), text);
}

carom::file_descriptor copy_of(const carom::file_descriptor& fd) {
  return carom::file_descriptor(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 3));
}

/// `aside` is this worker's standard error from now on.
void says_much(int times, carom::file_descriptor aside) {
  ::dup2(aside.get(), STDERR_FILENO);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([=] {
      for (int i = 0; i < times; ++i) carom::log()->info("{} {}", t, i);
    });
  for (auto& one : threads) one.join();
}

void chatters(carom::file_descriptor aside) {
  ::dup2(aside.get(), STDERR_FILENO);
  board::add(begun);
  while (board::get(enough) == 0) carom::log()->info("and another thing");
}

void dies_with_a_word() {
  carom::log()->error("it is over");
  ::raise(SIGKILL);
}

void says_much_and_dies(int lines) {
  for (int i = 0; i < lines; ++i) carom::log()->info("line {}", i);
  board::set(enough, 1);
  ::raise(SIGKILL);
}

void says_much_and_cannot_start() {
  for (int i = 0; i < 200; ++i) carom::log()->info("line {}", i);
  throw std::runtime_error("no licence");
}

constexpr int info = spdlog::level::info, debug = spdlog::level::debug, warn = spdlog::level::warn;

}  // namespace

TEST_F(Parity, Pool_forward_log_writes_a_workers_records_in_the_hosts_log) {
  own_log log;
  for (const auto method : {carom::start_method::forkserver, carom::start_method::spawn}) {
    carom::pool pool{
        {.processes = 1, .start_method = method, .forward_log = true, .name = "scribes"}};
    pool.apply(says, debug, std::string("too little"));
    pool.apply(says, info, std::string("{} is no placeholder"));
    pool.apply(says, warn, std::string(20'000, 'x'));
    EXPECT_TRUE(log.comes({info, "carom-scribes-0: {} is no placeholder"}));
    EXPECT_TRUE(log.comes({warn, "carom-scribes-0: " + std::string(16 * 1024, 'x')}));
    EXPECT_EQ(pool.apply(
                  +[](int x) { return x; }, 3),
              3)
        << "nothing else has changed";
  }
  for (const log_record& one : log.records()) EXPECT_NE(one.first, debug);
}

TEST_F(Parity, Pool_forward_log_brings_the_last_words_of_a_worker_that_dies) {
  own_log log;
  carom::pool pool{{.processes = 1, .forward_log = true, .name = "scribes"}};
  EXPECT_THROW(pool.apply(dies_with_a_word), carom::worker_lost);
  EXPECT_TRUE(log.comes({spdlog::level::err, "carom-scribes-0: it is over"}));
}

/// The host looks only when the worker is dead.
TEST_F(Parity, Pool_forward_log_brings_all_that_a_worker_has_said_before_it_died) {
  constexpr int lines = 100;
  for (int round = 0; round < 5; ++round) {
    own_log log;
    board::set(enough, 0);
    carom::pool pool{{.processes = 1, .forward_log = true}};
    EXPECT_THROW(
        pool.apply({.on_start = [](pid_t) { board::wait(enough); }}, says_much_and_dies, lines),
        carom::worker_lost);
    int told = 0;
    for (const log_record& one : log.records())
      told += one.second.find("line ") != std::string::npos;
    EXPECT_EQ(told, lines);
  }
}

TEST_F(Parity, Pool_forward_log_of_an_initializer_does_not_hide_why_it_failed) {
  own_log log;
  for (int round = 0; round < 10; ++round) {
    carom::pool pool{{.processes = 1,
                      .initializer = carom::call(says_much_and_cannot_start),
                      .restarts = {.max_restarts = 1},
                      .forward_log = true}};
    try {
      pool.apply_async(
              +[](int x) { return x; }, 1)
          .get();
      ADD_FAILURE() << "nothing thrown";
    } catch (const carom::restart_freq_exceeded& e) {
      EXPECT_NE(e.cause().find("no licence"), std::string::npos) << e.cause();
    }
  }
}

TEST_F(Parity, Pool_forward_log_keeps_up_with_threads_or_leaves_the_rest_to_stderr) {
  own_log log;
  const carom::file_descriptor aside(::memfd_create("aside", MFD_CLOEXEC));
  // Nothing but the worker's ring tells of the end, which comes while its records fill the channel.
  carom::pool pool{{.processes = 2, .claim_deadline = 1h, .forward_log = true, .name = "scribes"}};
  for (int i = 0; i < 4; ++i) pool.apply(says_much, 500, copy_of(aside));
  pool.close();
  pool.join();
  std::size_t told = 0;
  for (const log_record& one : log.records()) told += one.first == info;
  std::string rest(static_cast<std::size_t>(::lseek(aside.get(), 0, SEEK_END)), 0);
  ASSERT_EQ(::pread(aside.get(), rest.data(), rest.size(), 0), static_cast<ssize_t>(rest.size()));
  for (std::size_t at = 0; (at = rest.find("[info]", at)) != std::string::npos; ++at) ++told;
  EXPECT_EQ(told, 8000u);
}

/// Nor does one that logs faster than the host can write.
TEST_F(Parity, Pool_forward_log_of_who_never_stops_holds_up_nobody) {
  own_log log;
  const carom::file_descriptor aside(::open("/dev/null", O_WRONLY | O_CLOEXEC));
  carom::pool pool{{.processes = 2, .forward_log = true}};
  auto busy = pool.apply_async(chatters, copy_of(aside));
  ASSERT_TRUE(board::wait(begun));
  for (int i = 0; i < 50; ++i)
    EXPECT_EQ(pool.apply(
                  +[](int x) { return x; }, i),
              i);
  board::set(enough, 1);
  busy.get();
  EXPECT_FALSE(log.records().empty());
}

TEST_F(Parity, Pool_without_forward_log_keeps_the_hosts_log_to_itself) {
  own_log log;
  carom::pool pool{{.processes = 1, .name = "scribes"}};
  pool.apply(says, debug, std::string("nothing"));
  pool.close();
  pool.join();
  EXPECT_THAT(log.records(), IsEmpty());
}
