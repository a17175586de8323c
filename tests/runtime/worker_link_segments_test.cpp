// SPDX-License-Identifier: BSL-1.0
// The segments in which a worker leaves large results.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "runtime/segment.hpp"
#include "tests/runtime/worker_link_fixture.hpp"

namespace carom::runtime {
namespace {

using namespace serialization;
using testing::ElementsAre;
using testing::IsEmpty;

TEST_F(WorkerLink, AWorkerGetsASegmentForALargeResult) {
  connect();
  const auto told = need(500'000);
  EXPECT_TRUE(told.writable);
  EXPECT_GE(told.size, 500'000 + segment::header_size);
  ASSERT_EQ(received_.fds.size(), 1u);
  EXPECT_TRUE(is_sealed_memory(received_.fds[0].get(), told.size));
  const mapping memory(received_.fds[0].get(), told.size, mapping::access::read_write);
  memory.data()[segment::header_size] = std::byte{9};
  const auto lent = link_->lend(told.ticket, 500'000);
  ASSERT_TRUE(lent);
  EXPECT_EQ(lent->data()[0], std::byte{9});
}

TEST_F(WorkerLink, ATicketIsLentOnceAtATimeAndOnlyForWhatItHolds) {
  connect();
  const auto told = need(100'000);
  EXPECT_FALSE(link_->lend(told.ticket + 1, 1));
  EXPECT_FALSE(link_->lend(0, 0));
  EXPECT_FALSE(link_->lend(told.ticket, told.size));
  EXPECT_FALSE(link_->lend(told.ticket, UINT64_MAX));
  auto lent = link_->lend(told.ticket, told.size - segment::header_size);
  ASSERT_TRUE(lent);
  EXPECT_FALSE(link_->lend(told.ticket, 1)) << "somebody reads it";
  lent->lent = false;
  EXPECT_TRUE(link_->lend(told.ticket, 1));
}

TEST_F(WorkerLink, AnArgumentsTicketIsNoResultsTicket) {
  connect();
  const auto payload = payload_of(200'000);
  ASSERT_TRUE(link_->write({}, payload));
  ASSERT_EQ(next(), worker_message_kind::segment);
  EXPECT_FALSE(link_->lend(unpack_message<segment_message>(received_.bytes).ticket, 1));
}

TEST_F(WorkerLink, ADroppedSegmentIsNotLentAnyMoreButStaysForWhoReadsIt) {
  connect();
  const auto told = need(100'000);
  const auto lent = link_->lend(told.ticket, 1);
  say(worker_message_kind::dropped, ticket_message{told.ticket});
  EXPECT_THAT(hear(), IsEmpty());
  EXPECT_FALSE(link_->lend(told.ticket, 1));
  lent->data()[99'999] = std::byte{1};
  say(worker_message_kind::dropped, ticket_message{777});
  EXPECT_THAT(hear(), IsEmpty()) << "nothing to drop";
}

TEST_F(WorkerLink, MoreThanThereIsIsAnsweredWithNoTicket) {
  connect();
  for (const std::uint64_t bytes : {UINT64_MAX, std::uint64_t{1} << 62, UINT64_MAX - 4096}) {
    const auto told = need(bytes);
    EXPECT_EQ(told.ticket, 0u) << bytes;
    EXPECT_THAT(received_.fds, IsEmpty());
  }
  EXPECT_NE(need(0).ticket, 0u);
}

TEST_F(WorkerLink, AWorkerThatAsksForSegmentsWithoutUsingThemIsCorrupt) {
  connect();
  int granted = 0;
  std::vector<std::string> heard;
  for (; heard.empty() && granted < 100'000; ++granted) {
    say(worker_message_kind::need_segment, need_segment_message{1});
    heard = hear();
    ASSERT_TRUE(!heard.empty() || next() == worker_message_kind::segment);
  }
  EXPECT_THAT(heard, ElementsAre("corrupt"));
  EXPECT_LE(granted, 5'000);
}

}  // namespace
}  // namespace carom::runtime
