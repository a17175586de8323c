// SPDX-License-Identifier: BSL-1.0
#include "tests/actors/core_fixture.hpp"

// Who gets which task, and when: shares, rate limit, stealing.
namespace carom::test {
namespace {

using testing::ElementsAre;
using testing::Optional;
using testing::UnorderedElementsAre;

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

TEST_F(Share, AWorkerThatIsLeftWithNothingIsGivenMore) {
  start(1);
  submit(2 * first_window);
  place();
  for (std::uint64_t position = 0; position < first_window; ++position)
    ASSERT_NE(core_->stolen(0, position), nullptr) << "cancelled";
  place();
  EXPECT_THAT(live(), ElementsAre(first_window));
}

TEST_F(Share, ATurnEndsWithTheWorkersPlace) {
  start(1);
  submit(first_window);
  ASSERT_TRUE(core_->next_placement());
  core_->placed(tails_[0]++);
  core_->retire(0);
  EXPECT_FALSE(core_->next_placement());
}

TEST_F(Share, ATurnEndsWhenTasksTurnOutToTakeLonger) {
  start(1);
  core_->set_average(0, 1);
  submit(10);
  ASSERT_TRUE(core_->next_placement());
  core_->placed(tails_[0]++);
  core_->set_average(0, 3'600'000'000'000);
  place();
  EXPECT_THAT(live(), ElementsAre(2));
}

TEST_F(Share, ATurnDoesNotOutliveTheQueue) {
  start(2);
  submit(6);
  const index first = core_->next_placement()->worker;
  core_->placed(tails_[first]++);
  while (core_->front()) core_->drop_front();  // they have been cancelled
  place();
  submit(1);
  EXPECT_THAT(place(), ElementsAre(1 - first)) << "it idles";
}

TEST_F(Share, TheFrontIsWhoseTurnItIs) {
  start(1);
  EXPECT_EQ(core_->front(), nullptr);
  submit(1);
  core_->submit(task(7), 1);
  EXPECT_EQ(core_->front(), task(7));
}

class Rate : public Core {
 protected:
  static constexpr std::int64_t interval = 100;
  void start(std::uint32_t processes, std::uint32_t burst) {
    Core::start({.processes = processes, .task_interval_ns = interval, .task_burst = burst});
  }
};

TEST_F(Rate, NoMoreTasksGoThanThereAreTokens) {
  start(1, 2);
  submit(4);
  EXPECT_EQ(place(0).size(), 2u);
  EXPECT_THAT(core_->next_token_at(0), Optional(interval));
  EXPECT_EQ(place(interval - 1).size(), 0u);
  EXPECT_EQ(place(interval).size(), 1u);
}

TEST_F(Rate, ABurstIsShared) {
  start(2, 4);
  submit(100);
  place(0);
  EXPECT_THAT(live(), ElementsAre(2, 2));
}

TEST_F(Rate, TasksThatComeOneByOneAreSharedToo) {
  start(2, 1);
  submit(100);
  for (std::int64_t now = 0; now < 4 * interval; now += interval) place(now);
  EXPECT_THAT(live(), ElementsAre(2, 2)) << "nobody idles while another has two";
}

TEST_F(Rate, WhoIdlesIsGivenWhatIsBehindALongTaskWhileTheQueueMustWait) {
  start(2, 4);
  submit(5);
  place(0);
  ASSERT_THAT(live(), ElementsAre(2, 2));
  core_->finished(0, 0);
  core_->finished(0, 1);
  EXPECT_TRUE(core_->lopsided(0));
  EXPECT_FALSE(core_->lopsided(interval)) << "the queue may go";
  EXPECT_FALSE(core_->next_theft(true, interval));
  const auto theft = core_->next_theft(true, 0);
  ASSERT_TRUE(theft);
  EXPECT_EQ(theft->victim, 1u);
  rob(1);
  EXPECT_THAT(place(0), ElementsAre(0)) << "its token came back with it";
}

TEST_F(Rate, WhatADeadOneHadNotBegunDoesNotCount) {
  start(2, 2);
  submit(2);
  ASSERT_THAT(place(0), ElementsAre(testing::_, testing::_));
  for (const auto& one : core_->take_back(0)) {
    core_->not_begun();
    core_->resubmit(one.what);
  }
  core_->worker_down(0, 0, true);
  EXPECT_THAT(place(0), ElementsAre(1));
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

TEST_F(Stealing, WhatWasStuckIsSharedEvenly) {
  start(4);
  for (index w = 0; w < 4; ++w) core_->set_average(w, 50);
  submit(64);
  const index first = place().front();
  ASSERT_EQ(core_->live(first), 64u) << "a handful, it seemed";
  const auto theft = core_->next_theft(true);
  ASSERT_TRUE(theft && theft->victim == first && theft->count == 32);
  for (std::uint32_t i = 0; i < theft->count; ++i) {
    const auto task = core_->stolen(first, tails_[first] - 1 - i);
    core_->resubmit(task);
  }
  place();
  auto all = live();
  std::ranges::sort(all);
  EXPECT_THAT(all, ElementsAre(10, 11, 11, 32));
}

TEST_F(Stealing, LongTasksAreWorthStealingAtOnce) {
  start(2);
  submit(8);
  place();
  core_->set_average(1, 1'000'000);
  for (std::uint64_t position = 0; position < 4; ++position) core_->finished(0, position);
  EXPECT_TRUE(core_->next_theft(false));
}

}  // namespace
}  // namespace carom::test
