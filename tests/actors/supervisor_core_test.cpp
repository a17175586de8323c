// SPDX-License-Identifier: BSL-1.0
#include "tests/actors/core_fixture.hpp"

// Workers that come and go, and the pool's end; supervisor_core_placement_test.cpp has the tasks.
namespace carom::test {
namespace {

using testing::ElementsAre;
using testing::Optional;

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

TEST_F(Workers, LateStartsThatAreNotOverDoNotPileUp) {
  core_.emplace(supervisor_core::options{.processes = 2});
  ASSERT_THAT(core_->next_start(), Optional(0u));
  ASSERT_THAT(core_->next_start(), Optional(1u));
  core_->condemn(0, true);
  ASSERT_THAT(core_->next_start(), Optional(2u));
  core_->condemn(1, true);
  ASSERT_THAT(core_->next_start(), Optional(3u));
  core_->condemn(2, true);
  EXPECT_FALSE(core_->next_start());
  EXPECT_FALSE(core_->next_start_at());
  ASSERT_EQ(core_->worker_down(0, 0, false), verdict::restart);
  EXPECT_THAT(core_->next_start(), Optional(0u));
}

TEST_F(Workers, WhoHasBeenReadyAndIsKilledIsReplacedWithoutWaitingForItsEnd) {
  start(1);
  for (index w = 0; w < 20; ++w) {
    core_->condemn(w, true);
    ASSERT_THAT(core_->next_start(), Optional(w + 1));
    core_->worker_up(w + 1);
  }
}

TEST_F(Workers, WhatIsGivenUpIsGivenUpOnce) {
  start(3, 1);
  EXPECT_EQ(core_->worker_down(0, 0, false), verdict::restart);
  EXPECT_EQ(core_->worker_down(1, 0, false), verdict::give_up);
  EXPECT_EQ(core_->worker_down(2, 0, false), verdict::none);
  EXPECT_EQ(core_->deaths(), 2u);
}

TEST_F(Workers, WhatHasNeverBeenReadyIsNotTriedForEverHoweverSlowlyItFails) {
  constexpr std::int64_t hour = 3'600'000'000'000;
  core_.emplace(supervisor_core::options{1, 1'000, hour});
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(core_->next_start());
    ASSERT_EQ(core_->worker_down(0, i * hour, false), verdict::restart);
  }
  ASSERT_TRUE(core_->next_start());
  EXPECT_EQ(core_->worker_down(0, 10 * hour, false), verdict::give_up);
  EXPECT_EQ(core_->deaths(), 11u);
  EXPECT_EQ(core_->deaths_within_ns(), 10 * hour);
}

TEST_F(Workers, WhatHasBeenReadyIsTriedForAsLongAsItFailsSlowly) {
  constexpr std::int64_t hour = 3'600'000'000'000;
  core_.emplace(supervisor_core::options{1, 1'000, hour});
  ASSERT_TRUE(core_->next_start());
  core_->worker_up(0);
  ASSERT_EQ(core_->worker_down(0, 0, false), verdict::restart);
  for (int i = 1; i < 100; ++i) {
    ASSERT_TRUE(core_->next_start());
    ASSERT_EQ(core_->worker_down(0, i * hour, false), verdict::restart);
  }
}

TEST_F(Workers, AStartForWhichTheHostHasNoMeansIsNoDeath) {
  start({.processes = 2, .max_restarts = 0, .start_patience_ns = 10'000'000});
  die(1);
  std::int64_t now = 1;
  for (int i = 0; i < 100; ++i) {
    ASSERT_THAT(core_->next_start(now), Optional(1u));
    ASSERT_EQ(core_->worker_down(1, now, true), verdict::restart);
    ASSERT_TRUE(core_->starved(now)) << "the other one works";
    ASSERT_FALSE(core_->next_start(now)) << "not at once again";
    ASSERT_TRUE(core_->next_start_at());
    now = *core_->next_start_at();
  }
  die(0);
  EXPECT_TRUE(core_->starved(now));
  EXPECT_FALSE(core_->starved(now + 10'000'000)) << "nobody has been there for long";
}

TEST_F(Workers, PlacesThatNobodyWhoWorksWouldMiss) {
  core_.emplace(supervisor_core::options{4, 100, 1'000});
  EXPECT_EQ(core_->dispensable(), 4u) << "none is started";
  core_->next_start();
  core_->next_start();
  EXPECT_EQ(core_->dispensable(), 4u) << "two start";
  core_->worker_up(0);
  EXPECT_EQ(core_->dispensable(), 4u) << "one idles";
  tails_.assign(4, 0);
  submit(1);
  place();
  EXPECT_EQ(core_->dispensable(), 3u) << "one works";
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
  start(1);
  submit(1);
  place();  // it runs, and what stands behind it is taken back again and again
  for (std::uint64_t i = 1; i < supervisor_core::ring; ++i) {
    submit(1);
    core_->try_again(0);
    ASSERT_THAT(place(), ElementsAre(0));
    core_->stolen(0, i);
  }
  submit(1);
  core_->try_again(0);
  EXPECT_THAT(place(), ElementsAre()) << "that would be where it stands";
  EXPECT_EQ(core_->finished(0, 0), task(1));
  EXPECT_THAT(place(), ElementsAre(0));
}

TEST_F(Workers, ATurnEndsBeforeATaskThatIsNotOver) {
  start(1);
  core_->set_average(0, 1);
  submit(1);
  place();
  tails_[0] = supervisor_core::ring - 2;
  submit(10);
  EXPECT_EQ(place().size(), 2u);
  EXPECT_EQ(core_->at(0, 0), task(1));
}

TEST_F(Workers, WhoStandsByHasThePlaceOfOneWhoseDeathIsOneTooMany) {
  start({.processes = 1, .max_restarts = 1, .max_tasks_per_child = 1});
  submit(1);
  place();
  come(1);
  ASSERT_EQ(core_->state(1), worker_state::standby);
  core_->take_back(0);
  ASSERT_EQ(core_->worker_down(0, 0, false), verdict::restart);
  submit(1);
  place();
  come(0);
  core_->take_back(1);
  ASSERT_EQ(core_->worker_down(1, 0, false), verdict::give_up);
  EXPECT_EQ(core_->state(0), worker_state::ready);
}

TEST_F(Workers, OneThatIsRobbedOfItsLastTaskMayHaveAnother) {
  start({.processes = 1, .max_tasks_per_child = 2});
  submit(2);
  place();
  ASSERT_EQ(core_->state(0), worker_state::retiring);
  rob(0);
  EXPECT_EQ(core_->state(0), worker_state::ready);
}

using Restart = Core;

TEST_F(Restart, EachIsReplacedByOneThatIsThere) {
  start(2);
  core_->restart_all();
  EXPECT_THAT(let_go(), ElementsAre()) << "there is nobody yet to take its place";
  come(2);
  EXPECT_THAT(let_go(), ElementsAre(0));
  come(0);
  EXPECT_THAT(let_go(), ElementsAre(1));
  EXPECT_FALSE(core_->next_start());
  EXPECT_EQ(core_->serving(), 2u);
}

TEST_F(Restart, BeginsWithWhoHasLeastToDo) {
  start(2);
  submit(2);
  place();
  core_->finished(1, 0);
  core_->restart_all();
  come(2);
  EXPECT_THAT(let_go(), ElementsAre(1));
  EXPECT_EQ(core_->state(0), worker_state::ready);
}

TEST_F(Restart, GoesOnWhenThereAreToBeFewer) {
  start(3);
  core_->restart_all();
  core_->set_target(2);
  EXPECT_EQ(let_go().size(), 1u);
  index place = 0;
  for (int i = 0; i < 2; ++i) {
    const auto w = core_->next_start();
    ASSERT_TRUE(w);
    core_->worker_up(*w);
    const auto gone = let_go();
    ASSERT_EQ(gone.size(), 1u);
    EXPECT_NE(gone[0], *w);
    place = *w;
  }
  EXPECT_FALSE(core_->next_start());
  EXPECT_EQ(core_->state(place), worker_state::ready);
  EXPECT_EQ(core_->serving(), 2u);
}

TEST_F(Restart, ReplacesOneThatIsRobbedOfItsLastTask) {
  for (const bool spent_first : {true, false}) {
    start({.processes = 1, .max_tasks_per_child = 2});
    submit(2);
    if (!spent_first) core_->restart_all();
    place();
    if (spent_first) core_->restart_all();
    ASSERT_EQ(core_->state(0), worker_state::retiring);
    rob(0);
    EXPECT_EQ(core_->state(0), worker_state::retiring) << spent_first;
  }
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

TEST_F(Ending, ATaskIsAtItsPositionAndAtNoneARingAwayFromIt) {
  start(1);
  for (std::uint64_t i = 0; i < 2 * supervisor_core::ring; ++i) {
    submit(1);
    place();
    if (i + 1 < 2 * supervisor_core::ring) core_->finished(0, i);
  }
  const std::uint64_t position = 2 * supervisor_core::ring - 1;
  EXPECT_NE(core_->at(0, position), nullptr);
  EXPECT_EQ(core_->at(0, position - supervisor_core::ring), nullptr);
  EXPECT_EQ(core_->at(0, position + supervisor_core::ring), nullptr);
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
