// SPDX-License-Identifier: BSL-1.0
// Tasks on their way to a worker: through the page, their segments and modules ahead of them.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "runtime/modules.hpp"
#include "runtime/segment.hpp"
#include "runtime/task_ring.hpp"
#include "tests/runtime/worker_link_fixture.hpp"

namespace carom::runtime {
namespace {

using namespace serialization;

TEST_F(WorkerLink, ATaskTravelsThroughThePage) {
  connect();
  EXPECT_EQ(link_->tasks().tail(), 0u);
  EXPECT_TRUE(link_->write({.task_id = 5}, payload_of(100)));
  EXPECT_EQ(link_->tasks().tail(), 1u);
  link_->publish();
  EXPECT_EQ(next(), std::nullopt) << "the worker is awake";
  task_consumer tasks(*page_);
  const task_slot* const slot = tasks.claim(1);
  ASSERT_NE(slot, nullptr);
  EXPECT_EQ(slot->task_id, 5u);
  EXPECT_EQ(tasks.payload(*slot)->size(), 100u);
}

TEST_F(WorkerLink, ASleepingWorkerIsRungOncePerBatch) {
  connect();
  page_->header.worker_waits = static_cast<std::uint32_t>(worker_wait::tasks);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(link_->write({}, payload_of(10)));
  EXPECT_EQ(next(), std::nullopt) << "nothing is published";
  link_->publish();
  EXPECT_EQ(next(), worker_message_kind::tasks);
  link_->publish();
  EXPECT_EQ(next(), std::nullopt);
  EXPECT_EQ(page_->header.control_count, 1u) << "bells are not counted";
}

TEST_F(WorkerLink, AWorkerThatSleepsForRoomIsRungWhenThereIsSome) {
  connect();
  page_->header.worker_waits = static_cast<std::uint32_t>(worker_wait::results);
  link_->publish();
  EXPECT_EQ(next(), std::nullopt);
  link_->release_results(0);
  EXPECT_EQ(next(), worker_message_kind::tasks);
}

TEST_F(WorkerLink, ALargePayloadsSegmentGoesAheadOnce) {
  connect();
  const auto payload = payload_of(200'000);
  ASSERT_TRUE(link_->write({}, payload));
  ASSERT_TRUE(link_->write({}, payload));
  ASSERT_EQ(next(), worker_message_kind::segment);
  const auto told = unpack_message<segment_message>(received_.bytes);
  EXPECT_FALSE(told.writable);
  ASSERT_EQ(received_.fds.size(), 1u);
  EXPECT_TRUE(is_sealed_memory(received_.fds[0].get(), told.size));
  const mapping memory(received_.fds[0].get(), told.size, mapping::access::read);
  EXPECT_EQ(memory.data()[segment::header_size + 199'999], std::byte{7});
  EXPECT_EQ(next(), std::nullopt) << "it is known";

  link_->publish();
  task_consumer tasks(*page_);
  const task_slot* const slot = tasks.claim(1);
  EXPECT_TRUE(slot->flags & flag_segment);
  EXPECT_EQ(slot->payload, told.ticket);
  EXPECT_EQ(slot->length, 200'000u);

  link_->forget_segment(told.ticket);
  EXPECT_EQ(next(), worker_message_kind::forget);
  EXPECT_EQ(unpack_message<ticket_message>(received_.bytes).ticket, told.ticket);
  link_->forget_segment(told.ticket);
  EXPECT_EQ(next(), std::nullopt);
  EXPECT_EQ(page_->header.control_count, 3u);
}

TEST_F(WorkerLink, AFullRingTakesNothingUntilThereIsRoom) {
  connect();
  while (link_->write({}, payload_of(60'000))) {
  }
  link_->publish();
  task_consumer tasks(*page_);
  ASSERT_TRUE(tasks.claim(1));
  tasks.leave();
  ASSERT_TRUE(link_->tasks().refresh());
  EXPECT_TRUE(link_->write({}, payload_of(60'000)));
}

TEST_F(WorkerLink, ModulesThatTheSetUpDidNotNameAreTold) {
  setup_.modules.resize(1);
  connect();
  ASSERT_TRUE(link_->write({}, payload_of(1)));
  for (std::size_t i = 1; i < module_count(); ++i) {
    ASSERT_EQ(next(), worker_message_kind::module);
    EXPECT_EQ(unpack_message<module_record>(received_.bytes).build_id, module_at(i).build_id);
  }
  ASSERT_TRUE(link_->write({}, payload_of(1)));
  EXPECT_EQ(next(), std::nullopt);
}

TEST_F(WorkerLink, LeavingIsAMessage) {
  connect();
  link_->leave();
  EXPECT_EQ(next(), worker_message_kind::leave);
  EXPECT_EQ(page_->header.control_count, 2u);
}

TEST_F(WorkerLink, WhatFindsNoRoomInTheChannelIsSentLaterInOrder) {
  connect();
  std::vector<std::uint64_t> tickets;
  std::vector<detail::blob> payloads;
  while (!link_->wants_write()) {
    payloads.push_back(payload_of(70'000));
    if (!link_->write({}, payloads.back())) break;
  }
  ASSERT_TRUE(link_->wants_write());
  link_->leave();
  const std::uint32_t sent = page_->header.control_count;
  std::uint32_t got = 1;  // the set-up
  bool left = false;
  while (got != sent) {
    link_->flush();
    const auto kind = next();
    ASSERT_TRUE(kind);
    ++got;
    ASSERT_FALSE(left) << "the last word came before";
    left = *kind == worker_message_kind::leave;
    if (!left) {
      ASSERT_EQ(received_.fds.size(), 1u);
      const auto told = unpack_message<segment_message>(received_.bytes);
      ASSERT_TRUE(is_sealed_memory(received_.fds[0].get(), told.size));
      ASSERT_TRUE(tickets.empty() || tickets.back() < told.ticket);
      tickets.push_back(told.ticket);
    }
  }
  EXPECT_TRUE(left);
  EXPECT_FALSE(link_->wants_write());
}

TEST_F(WorkerLink, EveryCountedMessageArrivesEvenWhenDescriptorsRanOutMeanwhile) {
  connect();
  std::vector<detail::blob> payloads;
  while (!link_->wants_write()) {
    payloads.push_back(payload_of(70'000));
    ASSERT_TRUE(link_->write({}, payloads.back()));
  }
  payloads.push_back(payload_of(70'000));
  ASSERT_NE(argument_segments::instance().share(payloads.back()), nullptr);
  ::rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
  const ::rlimit none{0, limit.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  (void)link_->write({}, payloads.back());
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);

  // A worker reads until it has as many messages as there are; one less, and it waits for ever.
  std::uint32_t got = 1;
  for (bool more = true; more; got += more) {
    link_->flush();
    more = next().has_value();
  }
  EXPECT_EQ(got, page_->header.control_count);
}

TEST_F(WorkerLink, AMessageWhoseDescriptorsTheKernelRefusesGoesWithout) {
  connect();
  std::vector<detail::blob> payloads;
  while (!link_->wants_write()) {
    payloads.push_back(payload_of(70'000));
    ASSERT_TRUE(link_->write({}, payloads.back()));
  }
  // The link keeps a duplicate, which gets the lowest free number; it is closed behind its back.
  const int next_free = ::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
  ASSERT_GE(next_free, 0);
  ::close(next_free);
  detail::descriptor_list list;
  list.adopt(7, ::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, next_free + 1));
  ASSERT_TRUE(link_->send_descriptors(5, list));
  ASSERT_EQ(::close(next_free), 0);
  EXPECT_FALSE(link_->starved());

  std::uint32_t got = 1;
  bool told = false;
  for (bool more = true; more; got += more) {
    link_->flush();
    const auto kind = next();
    more = kind.has_value();
    if (kind != worker_message_kind::descriptors) continue;
    told = true;
    EXPECT_EQ(unpack_message<descriptors_message>(received_.bytes).tickets.size(), 1u);
    EXPECT_TRUE(received_.fds.empty());
  }
  EXPECT_TRUE(told);
  EXPECT_EQ(got, page_->header.control_count);
}

TEST_F(WorkerLink, ADeadWorkersLinkTakesEverything) {
  connect();
  worker_ = {};
  EXPECT_TRUE(link_->write({}, payload_of(200'000)));
  link_->publish();
  link_->leave();
  link_->flush();
  EXPECT_FALSE(link_->wants_write());
}

}  // namespace
}  // namespace carom::runtime
