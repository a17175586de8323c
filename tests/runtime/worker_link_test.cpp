// SPDX-License-Identifier: BSL-1.0
#include "runtime/worker_link.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <string>
#include <vector>

#include "runtime/modules.hpp"

namespace carom::runtime {
namespace {

using namespace serialization;
using testing::ElementsAre;
using testing::IsEmpty;

std::size_t open_descriptors() {
  std::size_t count = 0;
  DIR* const directory = ::opendir("/proc/self/fd");
  while (::readdir(directory) != nullptr) ++count;
  ::closedir(directory);
  return count;
}

/// What a host would hear, in words.
struct hearing : worker_link::listener {
  std::vector<std::string> heard;
  std::vector<std::byte> exception;

  void worker_ready() override { heard.emplace_back("ready"); }
  void worker_start_failed(std::span<const std::byte> what) override {
    exception.assign(what.begin(), what.end());
    heard.emplace_back("start failed");
  }
  void worker_rang() override { heard.emplace_back("rang"); }
  void worker_logged(int level, const std::string& text) override {
    heard.push_back("logged " + std::to_string(level) + " " + text);
  }
  void worker_corrupt(const char*) override { heard.emplace_back("corrupt"); }
};

/// A link, and in the worker's place a test that holds the other end of its channel.
class WorkerLink : public testing::Test {
 protected:
  WorkerLink() {
    setup_.worker_id = 42;
    scan_modules();
    for (std::size_t i = 0; i < module_count(); ++i)
      setup_.modules.push_back({module_at(i).build_id, module_at(i).path});
  }
  ~WorkerLink() override {
    received_ = {};
    worker_ = {};
    page_memory_ = {};
    link_.reset();
    argument_segments::instance().trim();
    EXPECT_EQ(open_descriptors(), before_);
  }

  void connect() {
    link_.emplace(setup_.worker_id, setup_);
    worker_ = channel(link_->take_worker_end());
    ASSERT_FALSE(worker_.receive(received_));
    ASSERT_EQ(kind_of(received_.bytes), worker_message_kind::setup);
    ASSERT_GE(received_.fds.size(), 1u);
    ASSERT_TRUE(is_sealed_memory(received_.fds[0].get(), sizeof(worker_page)));
    page_memory_ =
        mapping(received_.fds[0].get(), sizeof(worker_page), mapping::access::read_write);
    page_ = reinterpret_cast<worker_page*>(page_memory_.data());
  }
  /// The next message that the worker gets, or nothing.
  std::optional<worker_message_kind> next() {
    if (worker_.receive(received_)) return std::nullopt;
    return kind_of(received_.bytes);
  }
  void say(std::vector<std::byte> bytes) { ASSERT_FALSE(worker_.send(bytes)); }
  template <class Fields>
  void say(worker_message_kind kind, const Fields& fields) {
    say(pack_message(kind, fields));
  }
  std::vector<std::string> hear() {
    hearing ears;
    still_there_ = link_->read(ears);
    exception_ = ears.exception;
    return ears.heard;
  }
  /// Asks for a result segment; what the host answers.
  segment_message need(std::uint64_t bytes) {
    say(worker_message_kind::need_segment, need_segment_message{bytes});
    EXPECT_THAT(hear(), IsEmpty());
    EXPECT_EQ(next(), worker_message_kind::segment);
    return unpack_message<segment_message>(received_.bytes);
  }
  static detail::blob payload_of(std::size_t size) {
    detail::blob payload(&argument_segments::instance());
    payload.resize_uninitialized(size);
    std::memset(payload.data(), 7, size);
    return payload;
  }

  std::size_t before_ = open_descriptors();
  setup_message setup_;
  std::optional<worker_link> link_;
  channel worker_;
  mapping page_memory_;
  worker_page* page_ = nullptr;
  message received_;
  bool still_there_ = true;
  std::vector<std::byte> exception_;
};

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

// --- tasks ---------------------------------------------------------------------------------------

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

TEST_F(WorkerLink, ADeadWorkersLinkTakesEverything) {
  connect();
  worker_ = {};
  EXPECT_TRUE(link_->write({}, payload_of(200'000)));
  link_->publish();
  link_->leave();
  link_->flush();
  EXPECT_FALSE(link_->wants_write());
}

// --- results' segments ---------------------------------------------------------------------------

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
