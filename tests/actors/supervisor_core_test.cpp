// SPDX-License-Identifier: BSL-1.0
#include "actors/supervisor_core.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <vector>

namespace carom::test {
namespace {

using actors::supervisor_core;
using index = supervisor_core::worker_index;
using verdict = supervisor_core::verdict;
using worker_state = supervisor_core::worker_state;
using testing::ElementsAre;
using testing::Optional;
using testing::UnorderedElementsAre;

constexpr std::uint32_t first_window = 4;

/// A core whose rings have room, with tasks that are numbers from 1.
class Core : public testing::Test {
 protected:
  void start(std::uint32_t processes, std::uint32_t max_restarts = 100) {
    core_.emplace(supervisor_core::options{processes, max_restarts, 1'000});
    tails_.assign(processes, 0);
    for (index w = 0; w < processes; ++w) come(w);
  }
  void come(index w) {
    ASSERT_THAT(core_->next_start(), Optional(w));
    core_->worker_up(w);
    tails_[w] = 0;
  }
  static supervisor_core::task task(std::uintptr_t number) {
    return reinterpret_cast<supervisor_core::task>(number);
  }
  void submit(std::uintptr_t count) {
    while (count-- != 0) core_->submit(task(++submitted_));
  }
  /// Places all that can be; the worker that got each, in order.
  std::vector<index> place() {
    std::vector<index> to;
    while (const auto next = core_->next_placement()) {
      to.push_back(next->worker);
      core_->placed(tails_[next->worker]++);
    }
    return to;
  }
  std::vector<std::uint32_t> live() const {
    std::vector<std::uint32_t> all;
    for (index w = 0; w < core_->worker_count(); ++w) all.push_back(core_->live(w));
    return all;
  }
  void die(index w, std::int64_t now = 0, bool ordered = true) {
    core_->take_back(w);
    core_->worker_down(w, now, ordered);
  }

  std::optional<supervisor_core> core_;
  std::vector<std::uint64_t> tails_;
  std::uintptr_t submitted_ = 0;
};

using Share = Core;

TEST_F(Share, FewTasksGoToAsManyWorkers) {
  start(4);
  submit(4);
  place();
  EXPECT_THAT(live(), ElementsAre(1, 1, 1, 1));
}

TEST_F(Share, ManyTasksAreSharedEvenly) {
  start(4);
  submit(12);
  place();
  EXPECT_THAT(live(), ElementsAre(3, 3, 3, 3));
}

TEST_F(Share, ALongQueueOfTinyTasksWakesNoMoreWorkersThanItIsWorth) {
  start(4);
  for (index w = 0; w < 4; ++w) core_->set_average(w, 1'000);
  submit(40);
  place();
  EXPECT_THAT(live(), UnorderedElementsAre(20, 20, 0, 0)) << "20 µs each";
}

TEST_F(Share, AShortQueueOfTinyTasksIsSharedEvenly) {
  start(4);
  for (index w = 0; w < 4; ++w) core_->set_average(w, 1'000);
  submit(12);
  place();
  EXPECT_THAT(live(), ElementsAre(3, 3, 3, 3));
}

TEST_F(Share, ALongQueueOfLongTasksIsSharedEvenly) {
  start(4);
  for (index w = 0; w < 4; ++w) core_->set_average(w, 20'000);
  submit(40);
  place();
  EXPECT_THAT(live(), ElementsAre(10, 10, 10, 10));
}

TEST_F(Share, NobodyIsAheadByMoreThanAFewTasksWhileNobodyKnowsHowLongTheyTake) {
  start(2);
  submit(100);
  place();
  EXPECT_THAT(live(), ElementsAre(first_window, first_window));
  EXPECT_EQ(core_->pending(), 100u - 2 * first_window);
}

TEST_F(Share, AWorkerIsAheadByAboutAMillisecond) {
  start(1);
  core_->set_average(0, 10'000);
  submit(1'000);
  place();
  EXPECT_THAT(live(), ElementsAre(100));
}

TEST_F(Share, ShortTasksDoNotFillTheRing) {
  start(1);
  core_->set_average(0, 1);
  submit(1'000);
  place();
  EXPECT_THAT(live(), ElementsAre(supervisor_core::widest_window));
}

TEST_F(Share, TheNextOfLongTasksWaitsAtItsWorker) {
  start(1);
  core_->set_average(0, 3'600'000'000'000);
  submit(10);
  place();
  EXPECT_THAT(live(), ElementsAre(2));
}

TEST_F(Share, TasksArePlacedInTheOrderInWhichTheyWereSubmitted) {
  start(3);
  submit(9);
  for (std::uintptr_t number = 1; number <= 9; ++number) {
    const auto next = core_->next_placement();
    ASSERT_TRUE(next);
    EXPECT_EQ(next->what, task(number));
    core_->placed(tails_[next->worker]++);
  }
}

TEST_F(Share, AWorkerIsFedAgainWhenHalfIsDone) {
  start(1);
  submit(10);
  place();
  core_->finished(0, 0);
  EXPECT_FALSE(core_->next_placement()) << "three of four are left";
  core_->finished(0, 1);
  place();
  EXPECT_THAT(live(), ElementsAre(first_window));
}

TEST_F(Share, OnlyReadyWorkersGetTasks) {
  core_.emplace(supervisor_core::options{2, 100, 1'000});
  tails_.assign(2, 0);
  ASSERT_THAT(core_->next_start(), Optional(0u));
  ASSERT_THAT(core_->next_start(), Optional(1u));
  submit(2);
  EXPECT_FALSE(core_->next_placement());
  core_->worker_up(1);
  EXPECT_THAT(place(), ElementsAre(1, 1));
}

TEST_F(Share, AFullRingPassesTheTurnOn) {
  start(2);
  submit(4);
  const index first = core_->next_placement()->worker;
  core_->refused();
  for (const index other : place()) EXPECT_NE(other, first);
  EXPECT_EQ(core_->live(first), 0u);
}

TEST_F(Share, AWorkerWhoseRingWasFullGetsTasksOnceThereMayBeRoom) {
  start(1);
  submit(1);
  ASSERT_TRUE(core_->next_placement());
  core_->refused();
  EXPECT_FALSE(core_->next_placement());
  core_->try_again(0);
  EXPECT_THAT(place(), ElementsAre(0));
}

TEST_F(Share, AWorkerThatComesBackTakesItsTurnOnce) {
  start(2);
  for (int i = 0; i < 10; ++i) {
    die(0);
    come(0);
  }
  submit(2);
  place();
  EXPECT_THAT(live(), ElementsAre(1, 1));
}

TEST_F(Share, ATurnEndsWithWhatThereIsToShare) {
  start(1);
  submit(1);
  ASSERT_TRUE(core_->next_placement());
  core_->drop_front();
  ASSERT_FALSE(core_->next_placement());
  core_->close();
  ASSERT_TRUE(core_->drained());
  core_->leaving(0);
  submit(1);
  EXPECT_FALSE(core_->next_placement()) << "it is leaving";
}

using Stealing = Core;

TEST_F(Stealing, AnIdleWorkerIsGivenHalfOfTheLongestQueue) {
  start(3);
  submit(12);
  place();
  ASSERT_THAT(live(), ElementsAre(4, 4, 4));
  for (std::uint64_t position = 0; position < 4; ++position) core_->finished(0, position);
  core_->finished(2, 0);
  const auto theft = core_->next_theft(true);
  ASSERT_TRUE(theft);
  EXPECT_EQ(theft->victim, 1u);
  EXPECT_EQ(theft->count, 2u);
}

TEST_F(Stealing, WhatIsStolenIsUnderWayNoMore) {
  start(2);
  submit(6);
  place();
  for (std::uint64_t position = 0; position < 3; ++position) core_->finished(0, position);
  ASSERT_TRUE(core_->lopsided());
  const auto stolen = core_->stolen(1, 2);
  EXPECT_NE(stolen, nullptr);
  EXPECT_EQ(core_->at(1, 2), nullptr);
  EXPECT_EQ(core_->live(1), 2u);
  EXPECT_EQ(core_->finished(1, 2), nullptr);
  core_->resubmit(stolen);
  EXPECT_FALSE(core_->lopsided()) << "it waits for the idle one now";
  EXPECT_THAT(place(), ElementsAre(0));
}

TEST_F(Stealing, NobodyStealsWhileTasksWait) {
  start(2);
  submit(4);
  place();
  core_->finished(0, 0);
  core_->finished(0, 1);
  ASSERT_TRUE(core_->next_theft(true));
  submit(1);
  EXPECT_FALSE(core_->next_theft(true));
}

TEST_F(Stealing, NobodyStealsTheLastTask) {
  start(2);
  submit(1);
  place();
  EXPECT_FALSE(core_->lopsided());
  EXPECT_FALSE(core_->next_theft(true));
}

TEST_F(Stealing, NobodyStealsWhileAllAreBusy) {
  start(2);
  submit(8);
  place();
  EXPECT_FALSE(core_->next_theft(true));
}

TEST_F(Stealing, ShortTasksAreLeftWhereTheyAreUnlessTheyAreStuck) {
  start(2);
  submit(8);
  place();
  core_->set_average(1, 10'000);
  for (std::uint64_t position = 0; position < 4; ++position) core_->finished(0, position);
  EXPECT_TRUE(core_->lopsided()) << "somebody has to look again";
  EXPECT_FALSE(core_->next_theft(false));
  EXPECT_TRUE(core_->next_theft(true));
}

TEST_F(Stealing, LongTasksAreWorthStealingAtOnce) {
  start(2);
  submit(8);
  place();
  core_->set_average(1, 1'000'000);
  for (std::uint64_t position = 0; position < 4; ++position) core_->finished(0, position);
  EXPECT_TRUE(core_->next_theft(false));
}

using Workers = Core;

TEST_F(Workers, AsManyStartAsThereAreProcesses) {
  core_.emplace(supervisor_core::options{3, 100, 1'000});
  EXPECT_THAT(core_->next_start(), Optional(0u));
  EXPECT_THAT(core_->next_start(), Optional(1u));
  EXPECT_THAT(core_->next_start(), Optional(2u));
  EXPECT_FALSE(core_->next_start());
  EXPECT_EQ(core_->present(), 3u);
}

TEST_F(Workers, ADeadOneIsReplacedInItsPlace) {
  start(3);
  EXPECT_EQ(core_->worker_down(1, 0, false), verdict::restart);
  EXPECT_EQ(core_->present(), 2u);
  EXPECT_THAT(core_->next_start(), Optional(1u));
}

TEST_F(Workers, OrderedDeathsNeverCount) {
  start(1, 1);
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(core_->worker_down(0, 0, true), verdict::restart);
    come(0);
  }
}

TEST_F(Workers, OneDeathTooManyIsGivenUp) {
  start(1, 2);
  EXPECT_EQ(core_->worker_down(0, 0, false), verdict::restart);
  come(0);
  EXPECT_EQ(core_->worker_down(0, 1, false), verdict::restart);
  come(0);
  EXPECT_EQ(core_->worker_down(0, 2, false), verdict::give_up);
  EXPECT_EQ(core_->deaths(), 3u);
}

TEST_F(Workers, AFinishedTaskForgivesDeaths) {
  start(1, 1);
  for (int i = 0; i < 10; ++i) {
    submit(1);
    place();
    ASSERT_NE(core_->finished(0, 0), nullptr);
    ASSERT_EQ(core_->worker_down(0, 0, false), verdict::restart);
    come(0);
  }
}

TEST_F(Workers, DeathsBeforeReadyHaveALimitOfTheirOwnThatNoTaskForgives) {
  core_.emplace(supervisor_core::options{1, 0, 1'000});
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(core_->next_start());
    core_->accepted();
    ASSERT_EQ(core_->worker_down(0, i, false), verdict::restart);
  }
  ASSERT_TRUE(core_->next_start());
  EXPECT_EQ(core_->worker_down(0, 10, false), verdict::give_up);
}

TEST_F(Workers, WhatADeadOneHadIsTakenBackInOrder) {
  start(1);
  submit(4);
  place();
  core_->finished(0, 1);
  std::vector<std::uint64_t> positions;
  for (const auto& one : core_->take_back(0)) positions.push_back(one.position);
  EXPECT_THAT(positions, ElementsAre(0, 2, 3));
  EXPECT_EQ(core_->under_way(), 0u);
  EXPECT_TRUE(core_->take_back(0).empty());
}

TEST_F(Workers, AReadyThatComesTwiceOrLateChangesNothing) {
  start(1);
  core_->worker_up(0);
  submit(1);
  EXPECT_EQ(place().size(), 1u);
  die(0);
  core_->worker_up(0);
  EXPECT_EQ(core_->state(0), worker_state::none);
}

TEST_F(Workers, PositionsThatHoldNothingAreNobodysTask) {
  start(1);
  submit(1);
  place();
  EXPECT_EQ(core_->finished(0, 1), nullptr) << "never given out";
  EXPECT_EQ(core_->finished(0, supervisor_core::ring), nullptr);
  EXPECT_EQ(core_->finished(0, UINT64_MAX), nullptr);
  EXPECT_NE(core_->finished(0, 0), nullptr);
  EXPECT_EQ(core_->finished(0, 0), nullptr) << "over already";
}

TEST_F(Workers, APositionOfTheRoundBeforeIsNotTheTaskThatStandsThereNow) {
  start(1);
  for (std::uint64_t position = 0; position < supervisor_core::ring; ++position) {
    submit(1);
    place();
    ASSERT_NE(core_->finished(0, position), nullptr);
  }
  submit(1);
  place();
  EXPECT_EQ(core_->finished(0, 0), nullptr);
  EXPECT_NE(core_->finished(0, supervisor_core::ring), nullptr);
}

TEST_F(Workers, ATaskKeepsItsPlaceUntilItIsOverHoweverFarTheRingHasGone) {
  start(2);
  core_->set_average(0, 1);
  core_->set_average(1, 1);
  submit(1);
  const auto next = core_->next_placement();
  ASSERT_TRUE(next);
  const index busy = next->worker;
  core_->placed(tails_[busy]++);  // it runs, and what stands behind it is stolen again and again
  for (std::uint64_t i = 0; i < 3 * supervisor_core::ring; ++i) {
    submit(1);
    core_->try_again(busy);
    const auto another = core_->next_placement();
    ASSERT_TRUE(another) << "the other worker idles";
    core_->placed(tails_[another->worker]++);
    if (another->worker == busy)
      core_->stolen(busy, tails_[busy] - 1);
    else
      core_->finished(another->worker, tails_[another->worker] - 1);
  }
  EXPECT_EQ(core_->at(busy, 0), task(1));
  EXPECT_EQ(core_->finished(busy, 0), task(1));
}

using Ending = Core;

TEST_F(Ending, AClosedPoolDoesWhatItHas) {
  start(1);
  submit(2);
  core_->close();
  EXPECT_FALSE(core_->accepts());
  EXPECT_EQ(place().size(), 2u);
  EXPECT_FALSE(core_->drained());
  core_->finished(0, 0);
  core_->finished(0, 1);
  EXPECT_TRUE(core_->drained());
  core_->leaving(0);
  EXPECT_EQ(core_->worker_down(0, 0, false), verdict::none) << "it was asked to";
  EXPECT_FALSE(core_->next_start());
}

TEST_F(Ending, AClosedPoolReplacesWorkersWhileItHasTasks) {
  start(1);
  submit(1);
  core_->close();
  EXPECT_EQ(core_->worker_down(0, 0, false), verdict::restart);
  EXPECT_TRUE(core_->next_start());
}

TEST_F(Ending, ATerminatedPoolStartsNobody) {
  start(1);
  submit(1);
  core_->terminate();
  EXPECT_EQ(core_->worker_down(0, 0, false), verdict::none);
  EXPECT_FALSE(core_->next_start());
}

TEST_F(Ending, ATerminatedOrFailedPoolGivesNobodyATask) {
  for (const auto end : {&supervisor_core::terminate, &supervisor_core::fail}) {
    start(1);
    ((*core_).*end)();
    submit(1);  // late: from an inbox that was not closed yet
    EXPECT_FALSE(core_->next_placement());
  }
}

TEST_F(Ending, AFailedPoolStaysFailed) {
  start(1);
  core_->fail();
  core_->terminate();
  core_->close();
  EXPECT_EQ(core_->state(), supervisor_core::pool_state::failed);
}

TEST_F(Ending, TheQueueIsGivenBackWhole) {
  start(1);
  submit(10);
  place();
  core_->terminate();
  EXPECT_EQ(core_->take_pending().size(), 10u - first_window);
  EXPECT_EQ(core_->take_back(0).size(), first_window);
  EXPECT_TRUE(core_->drained());
}

}  // namespace
}  // namespace carom::test
