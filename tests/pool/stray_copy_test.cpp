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

/// Returns twice: in the worker with how its copy has ended.
end_of_copy return_in_a_copy(bool throws) {
  int ends[2];
  if (::pipe(ends) != 0) throw std::runtime_error("pipe");
  const pid_t copy = ::fork();
  if (copy == 0) {
    ::dup2(ends[1], STDERR_FILENO);
    ::close(ends[0]);
    ::close(ends[1]);
    if (throws) throw std::runtime_error("in the copy");
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

void expect_told(const end_of_copy& end) {
  EXPECT_TRUE(WIFEXITED(end.status)) << end.status;
  EXPECT_EQ(WEXITSTATUS(end.status), EXIT_FAILURE);
  EXPECT_NE(end.said.find("has returned from that task"), std::string::npos) << end.said;
}

TEST_F(Parity, Pool_copy_that_returns_from_a_task_says_so_and_ends) {
  carom::pool pool{{.processes = 1}};
  for (const bool throws : {false, true}) {
    expect_told(pool.apply(return_in_a_copy, throws));
    for (const auto& end : pool.map(return_in_a_copy, std::vector<bool>{throws, throws, throws}, 3))
      expect_told(end);
  }
  const auto figures = pool.metrics();
  EXPECT_EQ(figures.finished, 4U);
  EXPECT_EQ(figures.died_workers, 0U);
}

}  // namespace
