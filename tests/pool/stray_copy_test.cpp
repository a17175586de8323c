// SPDX-License-Identifier: BSL-1.0
// A process that a task has forked and that returns from the task is no second worker: it says what
// is wrong, and ends; the pool does not notice.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <carom/carom.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/pool/common.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

struct end_of_copy {
  std::string said;
  int status = 0;
  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& said& status;
  }
};

/// What else a copy does.
enum class copys_way : int { returns, throws, returns_much, holds_much };

/// Returns twice: in the worker with how its copy has ended.
end_of_copy return_in_a_copy(copys_way way) {
  // Of the size of what a worker shares with its host, and larger: where that lay is free.
  static std::vector<std::vector<char>> held;
  int ends[2];
  if (::pipe(ends) != 0) throw std::runtime_error("pipe");
  const pid_t copy = ::fork();
  if (copy == 0) {
    ::dup2(ends[1], STDERR_FILENO);
    ::close(ends[0]);
    ::close(ends[1]);
    if (way == copys_way::throws) throw std::runtime_error("in the copy");
    if (way == copys_way::holds_much)
      for (const std::size_t size : {200'000, 337'000, 2'000'000}) held.emplace_back(size);
    if (way == copys_way::returns_much) return {std::string(300'000, 'x'), 0};
    return {};
  }
  ::close(ends[1]);
  end_of_copy end;
  char part[256];
  for (ssize_t got; (got = ::read(ends[0], part, sizeof part)) > 0;)
    end.said.append(part, static_cast<std::size_t>(got));
  ::close(ends[0]);
  ::waitpid(copy, &end.status, 0);
  return end;
}

std::string letters(std::size_t count) { return std::string(count, 'x'); }

void expect_told(const end_of_copy& end) {
  EXPECT_TRUE(WIFEXITED(end.status)) << end.status;
  EXPECT_EQ(WEXITSTATUS(end.status), EXIT_FAILURE);
  EXPECT_NE(end.said.find("has returned from that task"), std::string::npos) << end.said;
}

TEST_F(Parity, Pool_copy_that_returns_from_a_task_says_so_and_ends) {
  carom::pool pool{{.processes = 1}};
  for (const bool warm : {false, true}) {
    // A warm worker has memory for large results.
    if (warm) {
      EXPECT_EQ(pool.apply(letters, 300'000).size(), 300'000U);
    }
    for (const auto way :
         {copys_way::returns, copys_way::throws, copys_way::returns_much, copys_way::holds_much}) {
      SCOPED_TRACE(static_cast<int>(way));
      expect_told(pool.apply(return_in_a_copy, way));
      for (const auto& end : pool.map(return_in_a_copy, std::vector{way, way, way}, 3))
        expect_told(end);
    }
  }
  EXPECT_EQ(pool.metrics().died_workers, 0U);
}

}  // namespace
