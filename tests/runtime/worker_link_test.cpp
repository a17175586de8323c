// SPDX-License-Identifier: BSL-1.0
#include "runtime/worker_link.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "tests/runtime/worker_link_fixture.hpp"

namespace carom::runtime {
namespace {

using namespace serialization;
using testing::ElementsAre;
using testing::IsEmpty;

// --- set-up --------------------------------------------------------------------------------------

TEST_F(WorkerLink, TheSetUpMessageWaitsInTheChannelWithThePage) {
  setup_.pool_name = "images";
  setup_.index = 3;
  connect();
  ASSERT_EQ(received_.fds.size(), 1u);
  const auto setup = unpack_message<setup_message>(received_.bytes);
  EXPECT_EQ(setup.worker_id, 42u);
  EXPECT_EQ(setup.pool_name, "images");
  EXPECT_EQ(setup.index, 3);
  EXPECT_EQ(page_->header.magic, page_magic);
  EXPECT_EQ(page_->header.worker_id, 42u);
  EXPECT_EQ(page_->header.control_count, 1u);
  EXPECT_EQ(page_->header.host_armed, 1u) << "the first result rings";
}

TEST_F(WorkerLink, ASetUpThatIsTooLongForAMessageGoesThroughMemory) {
  setup_.initializer_arguments = std::string(1'000'000, 'x');
  connect();
  ASSERT_EQ(received_.fds.size(), 2u);
  EXPECT_EQ(received_.bytes.size(), 1u);
  const off_t size = ::lseek(received_.fds[1].get(), 0, SEEK_END);
  ASSERT_TRUE(is_sealed_memory(received_.fds[1].get(), static_cast<std::size_t>(size)));
  const mapping carried(received_.fds[1].get(), static_cast<std::size_t>(size),
                        mapping::access::read);
  const auto setup = unpack_message<setup_message>(std::span(carried.data(), carried.size()));
  EXPECT_EQ(setup.initializer_arguments, setup_.initializer_arguments);
}

TEST_F(WorkerLink, TheLongestMessageIsStillAMessage) {
  const std::size_t rest = pack_message(worker_message_kind::setup, setup_).size();
  for (const std::size_t beyond : {0u, 1u}) {
    setup_.initializer_arguments = std::string(channel::max_bytes - rest + beyond, 'x');
    // Its length may have become longer to write down.
    const std::size_t size = pack_message(worker_message_kind::setup, setup_).size();
    connect();
    EXPECT_EQ(received_.fds.size(), size <= channel::max_bytes ? 1u : 2u);
    received_ = {};
    worker_ = {};
    link_.reset();
  }
}

TEST_F(WorkerLink, TheWorkersEndIsTakenOnce) {
  connect();
  EXPECT_FALSE(link_->take_worker_end());
}

// --- what the worker says ------------------------------------------------------------------------

TEST_F(WorkerLink, HearsWhatAWorkerSays) {
  connect();
  say(pack_message(worker_message_kind::ready));
  say(pack_message(worker_message_kind::results));
  say({static_cast<std::byte>(worker_message_kind::start_failed), std::byte{1}, std::byte{2}});
  EXPECT_THAT(hear(), ElementsAre("ready", "rang", "start failed"));
  EXPECT_THAT(exception_, ElementsAre(std::byte{1}, std::byte{2}));
  EXPECT_THAT(hear(), IsEmpty());
  EXPECT_TRUE(still_there_);
}

TEST_F(WorkerLink, HearsTheEndOfTheChannelAfterTheLastWord) {
  connect();
  say(pack_message(worker_message_kind::ready));
  worker_ = {};
  EXPECT_THAT(hear(), ElementsAre("ready"));
  EXPECT_FALSE(still_there_);
}

TEST_F(WorkerLink, SaysWhetherThereMayBeMoreToHear) {
  connect();
  EXPECT_FALSE(link_->has_more());
  for (int i = 0; i < 100; ++i) say(worker_message_kind::logged, log_message{2, std::to_string(i)});
  worker_ = {};
  std::vector<std::string> all;
  do
    for (std::string& one : hear()) all.push_back(std::move(one));
  while (link_->has_more());
  ASSERT_EQ(all.size(), 100u);
  EXPECT_EQ(all.back(), "logged 2 99");
  EXPECT_FALSE(still_there_);
}

TEST_F(WorkerLink, WhatNoWorkerSaysIsCorrupt) {
  connect();
  for (const int kind : {0, 1, 2, 3, 4, 5, 6, 7, 15, 21, 22, 255}) {
    say({static_cast<std::byte>(kind)});
    EXPECT_THAT(hear(), ElementsAre("corrupt")) << kind;
  }
  EXPECT_TRUE(still_there_) << "what is done about it is not the link's";
}

TEST_F(WorkerLink, WhatAWorkerLogsIsHeard) {
  connect();
  const auto record = [](int level, std::size_t length) {
    return pack_message(worker_message_kind::logged, log_message{level, std::string(length, 'x')});
  };
  say(record(3, 2));
  EXPECT_THAT(hear(), ElementsAre("logged 3 xx"));
  say(record(0, 0));
  EXPECT_THAT(hear(), ElementsAre("logged 0 "));
  say(record(5, log_message::most_text));
  EXPECT_THAT(hear(), ElementsAre("logged 5 " + std::string(log_message::most_text, 'x')));
  for (const auto& wrong : {record(-1, 2), record(6, 2), record(3, log_message::most_text + 1)}) {
    say(wrong);
    EXPECT_THAT(hear(), ElementsAre("corrupt"));
  }
}

TEST_F(WorkerLink, WhatIsCutShortOrTooLongIsCorrupt) {
  connect();
  auto whole = pack_message(worker_message_kind::need_segment, need_segment_message{100});
  for (std::size_t length = 1; length < whole.size(); ++length) {
    say({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length)});
    EXPECT_THAT(hear(), ElementsAre("corrupt")) << length;
  }
  whole.push_back(std::byte{0});
  say(whole);
  EXPECT_THAT(hear(), ElementsAre("corrupt"));
  say(pack_message(worker_message_kind::dropped));
  EXPECT_THAT(hear(), ElementsAre("corrupt"));
}

TEST_F(WorkerLink, AMessageLongerThanAnyIsCorrupt) {
  connect();
  const std::vector<std::byte> endless(channel::max_bytes + 1);
  ASSERT_EQ(::send(worker_.fd(), endless.data(), endless.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(endless.size()));
  EXPECT_THAT(hear(), ElementsAre("corrupt"));
  EXPECT_TRUE(still_there_);
}

TEST_F(WorkerLink, DescriptorsThatNobodyAskedForAreClosed) {
  connect();
  const std::vector<int> fds(channel::max_fds, worker_.fd());
  ASSERT_FALSE(worker_.send(pack_message(worker_message_kind::ready), fds));
  EXPECT_THAT(hear(), ElementsAre("ready"));
}

}  // namespace
}  // namespace carom::runtime
