// SPDX-License-Identifier: BSL-1.0
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include "runtime/result_ring.hpp"
#include "runtime/task_ring.hpp"
#include "tests/runtime/bytes_of.hpp"

// The rules one by one, in one thread; rings_stress_test.cpp has the threads.
namespace carom::runtime {
namespace {

class Rings : public testing::Test {
 protected:
  std::uint64_t write(std::string_view payload = {}) {
    const auto at = host_.write({.task_id = 7, .payload = bytes_of(payload)});
    EXPECT_TRUE(at);
    return at.value_or(0);
  }
  /// What worker_session does with a task, but for the task.
  bool run_one() {
    if (!worker_.claim(1)) return false;
    worker_.finish();
    worker_.leave();
    return true;
  }
  void scribble(std::mt19937_64& random) {
    auto* const bytes = reinterpret_cast<unsigned char*>(page_.get());
    for (std::size_t i = 0; i + 8 <= sizeof(worker_page); i += 8) {
      const std::uint64_t word = random();
      std::memcpy(bytes + i, &word, 8);
    }
  }

  std::unique_ptr<worker_page> page_ = std::make_unique<worker_page>();
  task_producer host_{*page_};
  task_consumer worker_{*page_};
  result_producer out_{*page_};
  result_consumer in_{*page_};
};

// --- byte_ring -----------------------------------------------------------------------------------

TEST(ByteRing, ReservationsAreContiguousAlignedAndNeverOverlap) {
  std::mt19937_64 random(1);
  byte_ring ring;
  struct piece {
    std::uint64_t at, length, end;
  };
  std::deque<piece> held;
  for (int step = 0; step < 200'000; ++step) {
    const std::uint64_t length = random() % 4 == 0 ? random() % largest_inline : random() % 300;
    if (const auto at = ring.reserve(length)) {
      ASSERT_EQ(*at % 8, 0u);
      ASSERT_LE(*at + length, ring_bytes) << "contiguous";
      for (const piece& other : held)
        ASSERT_TRUE(length == 0 || *at + length <= other.at || other.at + other.length <= *at);
      held.push_back({*at, length, ring.end()});
    } else {
      ASSERT_FALSE(held.empty()) << "there is room for anything in an empty ring";
    }
    while (held.size() > random() % 40) {
      ring.release(held.front().end);
      held.pop_front();
    }
  }
}

TEST(ByteRing, AnythingThatTravelsInlineFitsIntoAnEmptyRingWhereverItStands) {
  for (std::uint64_t stand = 0; stand < ring_bytes; stand += 1'000) {
    byte_ring ring;
    for (std::uint64_t left = stand; left != 0; left -= std::min<std::uint64_t>(left, 60'000)) {
      ASSERT_TRUE(ring.reserve(std::min<std::uint64_t>(left, 60'000)));
      ring.release(ring.end());
    }
    EXPECT_TRUE(ring.reserve(largest_inline)) << stand;
  }
}

TEST(ByteRing, RoomIsTakenAndGivenBackExactly) {
  byte_ring ring;
  for (std::uint32_t i = 0; i < ring_bytes / 8; ++i) ASSERT_TRUE(ring.reserve(1));
  EXPECT_FALSE(ring.reserve(1));
  EXPECT_TRUE(ring.reserve(0)) << "nothing needs no room";
  ring.release(8);
  EXPECT_TRUE(ring.reserve(8));
  EXPECT_FALSE(ring.reserve(1));
}

// --- tasks ---------------------------------------------------------------------------------------

TEST_F(Rings, AWorkerSeesWhatIsPublished) {
  write("first");
  EXPECT_TRUE(worker_.empty());
  EXPECT_EQ(worker_.claim(1), nullptr);
  host_.publish();
  EXPECT_FALSE(worker_.empty());
  const task_slot* const slot = worker_.claim(1);
  ASSERT_NE(slot, nullptr);
  EXPECT_EQ(slot->task_id, 7u);
  const auto payload = worker_.payload(*slot);
  ASSERT_TRUE(payload);
  EXPECT_EQ(std::memcmp(payload->data(), "first", 5), 0);
}

TEST_F(Rings, TheHostSeesWhenATaskWasBegunAndThatItIsOver) {
  const auto at = write();
  host_.publish();
  EXPECT_EQ(host_.look(at).state, claim_state::queued);
  ASSERT_TRUE(worker_.claim(12345));
  EXPECT_EQ(host_.look(at).state, claim_state::running);
  EXPECT_EQ(host_.look(at).started_ns, 12345);
  ASSERT_TRUE(worker_.finish());
  EXPECT_EQ(host_.look(at).state, claim_state::done);
  EXPECT_TRUE(host_.refresh());
  EXPECT_EQ(host_.head(), 0u);
  worker_.leave();
  EXPECT_TRUE(host_.refresh());
  EXPECT_EQ(host_.head(), 1u);
}

TEST_F(Rings, WhatIsRevokedNeverRunsAndWhatRunsIsNeverRevoked) {
  const auto first = write(), second = write(), third = write();
  host_.publish();
  EXPECT_TRUE(host_.revoke(second));
  EXPECT_FALSE(host_.revoke(second)) << "once";
  ASSERT_TRUE(worker_.claim(1));
  EXPECT_FALSE(host_.revoke(first));
  worker_.finish();
  worker_.leave();
  ASSERT_TRUE(worker_.claim(1));
  EXPECT_EQ(worker_.position(), third);
  EXPECT_FALSE(host_.revoke(first)) << "over";
}

TEST_F(Rings, AStaleClaimDoesNotMatchASlotThatIsUsedAgain) {
  const auto first = write();
  for (std::uint32_t i = 0; i < ring_slots; ++i) {
    host_.publish();
    ASSERT_TRUE(run_one());
    ASSERT_TRUE(host_.refresh());
    write();
  }
  EXPECT_FALSE(host_.revoke(first)) << "the slot is another task's";
  EXPECT_EQ(host_.look(first + ring_slots).state, claim_state::queued);
}

TEST_F(Rings, OneSlotStaysFreeForTheTaskThatWasLeftAndNotReported) {
  for (std::uint32_t i = 0; i < ring_slots - 1; ++i) ASSERT_TRUE(host_.write({}));
  EXPECT_FALSE(host_.write({}));
  host_.publish();
  ASSERT_TRUE(run_one());
  EXPECT_FALSE(host_.write({})) << "not looked yet";
  ASSERT_TRUE(host_.refresh());
  EXPECT_TRUE(host_.write({}));
  EXPECT_FALSE(host_.write({}));
}

TEST_F(Rings, AFrameWhosePayloadDoesNotFitIsRefusedAndLaterTaken) {
  const std::string large(largest_inline, 'x');
  write(large);
  write(large);
  EXPECT_FALSE(host_.write({.payload = bytes_of("one byte too much")}));
  host_.publish();
  ASSERT_TRUE(run_one());
  ASSERT_TRUE(host_.refresh());
  write(large);
}

TEST_F(Rings, ACondemnedTaskDoesNotFinish) {
  const auto at = write();
  host_.publish();
  ASSERT_TRUE(worker_.claim(1));
  page_->tasks[at % ring_slots].claim.store(claim_word(at, claim_state::condemned));
  EXPECT_FALSE(worker_.finish());
  EXPECT_EQ(host_.look(at).state, claim_state::condemned);
}

TEST_F(Rings, ASleeperIsRungOnceAndOnlyForWhatItWaitsFor) {
  auto& waits = page_->header.worker_waits;
  EXPECT_FALSE(host_.publish()) << "it is awake";
  waits = static_cast<std::uint32_t>(worker_wait::tasks);
  EXPECT_TRUE(host_.publish());
  EXPECT_FALSE(host_.publish()) << "it has been rung";
  waits = static_cast<std::uint32_t>(worker_wait::results);
  EXPECT_FALSE(host_.publish());
  EXPECT_TRUE(host_.take_waiter(worker_wait::results));
}

// --- results -------------------------------------------------------------------------------------

TEST_F(Rings, ResultsComeAsTheyWereWritten) {
  ASSERT_TRUE(out_.write({.position = 3, .kind = result_kind::error, .payload = bytes_of("bad")}));
  ASSERT_TRUE(out_.write(
      {.position = 4, .kind = result_kind::items, .first = 10, .count = 5, .payload = {}}));
  ASSERT_TRUE(out_.write({.position = 5, .flags = flag_segment, .ticket = 99, .length = 1 << 20}));
  EXPECT_EQ(in_.available(), 0u);
  out_.publish();
  ASSERT_EQ(in_.available(), 3u);
  result_frame frame;
  ASSERT_TRUE(in_.peek(0, frame));
  EXPECT_EQ(frame.position, 3u);
  EXPECT_EQ(frame.kind, result_kind::error);
  EXPECT_EQ(frame.payload.size(), 3u);
  EXPECT_EQ(std::memcmp(frame.payload.data(), "bad", 3), 0);
  ASSERT_TRUE(in_.peek(1, frame));
  EXPECT_EQ(frame.first, 10u);
  EXPECT_EQ(frame.count, 5u);
  ASSERT_TRUE(in_.peek(2, frame));
  EXPECT_EQ(frame.ticket, 99u);
  EXPECT_EQ(frame.length, 1u << 20);
  EXPECT_TRUE(frame.payload.empty());
}

TEST_F(Rings, AFullResultRingTakesMoreOnceTheHostHasRead) {
  for (std::uint32_t i = 0; i < ring_slots; ++i) ASSERT_TRUE(out_.write({.position = i}));
  EXPECT_FALSE(out_.write({}));
  EXPECT_FALSE(out_.room_changed());
  out_.publish();
  in_.release(1);
  EXPECT_TRUE(out_.room_changed());
  EXPECT_TRUE(out_.write({}));
  EXPECT_FALSE(out_.write({}));
}

TEST_F(Rings, TheHostIsRungOncePerArming) {
  out_.write({});
  EXPECT_FALSE(out_.publish()) << "it has not asked for it";
  EXPECT_FALSE(in_.arm()) << "there is something already";
  out_.write({});
  EXPECT_FALSE(out_.publish());
  in_.release(2);
  EXPECT_TRUE(in_.arm());
  out_.write({});
  EXPECT_TRUE(out_.publish());
  out_.write({});
  EXPECT_FALSE(out_.publish());
}

// --- corrupt pages -------------------------------------------------------------------------------

TEST_F(Rings, AHeadOutOfBoundsIsFoundOut) {
  write();
  write();
  host_.publish();
  ASSERT_TRUE(run_one());
  ASSERT_TRUE(host_.refresh());
  for (const std::uint64_t lie :
       {std::uint64_t{0}, std::uint64_t{3}, std::uint64_t{512}, UINT64_MAX}) {
    page_->header.task_head = lie;
    EXPECT_FALSE(host_.refresh()) << lie;
    EXPECT_EQ(host_.head(), 1u);
  }
  page_->header.task_head = 2;
  EXPECT_TRUE(host_.refresh());
}

TEST_F(Rings, AHeadPastWhatIsPublishedIsFoundOut) {
  write();
  page_->header.task_head = 1;
  EXPECT_FALSE(host_.refresh()) << "written, but not shown";
}

TEST_F(Rings, AResultThatCannotBeIsFoundOut) {
  out_.write({.payload = bytes_of("fine")});
  out_.publish();
  result_frame frame;
  result_slot& slot = page_->results[0];
  const result_slot fine = slot;
  const auto refused = [&](auto change) {
    slot = fine;
    change(slot);
    return !in_.peek(0, frame);
  };
  EXPECT_TRUE(refused([](auto& s) { s.kind = 5; }));
  EXPECT_TRUE(refused([](auto& s) { s.kind = UINT32_MAX; }));
  EXPECT_TRUE(refused([](auto& s) { s.length = ring_bytes + 1; }));
  EXPECT_TRUE(refused([](auto& s) { s.length = UINT64_MAX; }));
  EXPECT_TRUE(refused([](auto& s) { s.payload = ring_bytes - 3; }));
  EXPECT_TRUE(refused([](auto& s) { s.payload = UINT64_MAX; }));
  EXPECT_FALSE(refused([](auto& s) { s.payload = ring_bytes - 4; }));
}

TEST_F(Rings, AClaimWordThatCannotBeIsATaskThatWasBegun) {
  const auto at = write();
  host_.publish();
  for (const std::uint64_t word : {claim_word(at + ring_slots, claim_state::queued),
                                   claim_word(at, claim_state{7}), UINT64_MAX}) {
    page_->tasks[at].claim = word;
    EXPECT_EQ(host_.look(at).state, claim_state::running);
    EXPECT_FALSE(host_.revoke(at));
  }
}

TEST_F(Rings, NoPayloadLiesOutsideOfTheRingWhateverASlotSays) {
  write();
  host_.publish();
  ASSERT_TRUE(worker_.claim(1));
  task_slot& slot = page_->tasks[0];
  const auto inside = [&](std::uint64_t at, std::uint64_t length) {
    slot.payload = at;
    slot.length = length;
    return worker_.payload(slot).has_value();
  };
  EXPECT_TRUE(inside(0, ring_bytes));
  EXPECT_TRUE(inside(ring_bytes, 0));
  EXPECT_FALSE(inside(1, ring_bytes));
  EXPECT_FALSE(inside(ring_bytes + 1, 0));
  EXPECT_FALSE(inside(UINT64_MAX, 2));
  EXPECT_FALSE(inside(2, UINT64_MAX));
}

TEST_F(Rings, ArbitraryBytesInThePageLeadNowhereElse) {
  std::mt19937_64 random(2);
  for (int round = 0; round < 40; ++round) {
    for (int i = 0; i < 100; ++i) (void)host_.write({.payload = bytes_of("payload")});
    host_.publish();
    scribble(random);
    const auto* const first = page_->result_bytes.data();
    for (std::uint64_t i = 0; i < ring_slots; ++i) {
      result_frame frame;
      // Half of the kinds and places are made possible, or nearly all would fail at once.
      page_->results[i].kind %= 8;
      if (i % 2)
        page_->results[i].payload %= 2 * ring_bytes, page_->results[i].length %= ring_bytes;
      if (!in_.peek(i, frame) || frame.flags & flag_segment) continue;
      ASSERT_GE(frame.payload.data(), first);
      ASSERT_LE(frame.payload.data() + frame.payload.size(), first + ring_bytes);
    }
    (void)in_.available();
    (void)in_.arm();
    in_.release(1);
    if (random() % 2) page_->header.task_head = host_.head() + random() % 200;
    (void)host_.refresh();
    ASSERT_LE(host_.head(), host_.tail());
    for (std::uint64_t at = host_.head(); at != host_.tail(); ++at) {
      const claim_state state = host_.look(at).state;
      ASSERT_LE(state, claim_state::condemned);
      (void)host_.revoke(at);
    }
  }
}

}  // namespace
}  // namespace carom::runtime
