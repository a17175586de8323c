// SPDX-License-Identifier: BSL-1.0
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <thread>

#include "runtime/proc_tree.hpp"
#include "tests/runtime/fork_server_support.hpp"

namespace carom::runtime {
namespace {

using namespace testing;

class ForkServerShortage : public ForkServer {};

TEST_F(ForkServerShortage, AKeeperWithoutADescriptorForksTheNextForkerLater) {
  start();
  const auto living = forked_one();
  const pid_t keeper = server_->keeper_pid(), forker = server_->forker_pid();
  rlimit all{};
  ASSERT_EQ(::prlimit(keeper, RLIMIT_NOFILE, nullptr, &all), 0);
  const rlimit none{3, all.rlim_max};
  ASSERT_EQ(::prlimit(keeper, RLIMIT_NOFILE, &none, nullptr), 0);
  ::kill(forker, SIGKILL);
  // It reaps the dead one, fails to fork the next, and sleeps.
  while (::kill(forker, 0) == 0) std::this_thread::yield();
  for (auto now = proc_entry::read(keeper); now && now->state == 'R';)
    now = proc_entry::read(keeper);
  ASSERT_EQ(::prlimit(keeper, RLIMIT_NOFILE, &all, nullptr), 0);
  pump_until([&] { return server_->forker_pid() != forker; });
  EXPECT_EQ(server_->keeper_pid(), keeper);
  EXPECT_EQ(seen_.workers[living].exited, 0);
  const auto next = forked_one();
  tell(to(next), "exit 3");
  await_exit(next);
}

}  // namespace
}  // namespace carom::runtime
