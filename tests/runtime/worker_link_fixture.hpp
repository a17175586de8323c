// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <dirent.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "runtime/channel.hpp"
#include "runtime/modules.hpp"
#include "runtime/segment.hpp"
#include "runtime/worker_link.hpp"
#include "runtime/worker_page.hpp"
#include "serialization/worker_messages.hpp"

namespace carom::runtime {

inline std::size_t open_descriptors() {
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
    ASSERT_EQ(serialization::kind_of(received_.bytes), serialization::worker_message_kind::setup);
    ASSERT_GE(received_.fds.size(), 1u);
    ASSERT_TRUE(is_sealed_memory(received_.fds[0].get(), sizeof(worker_page)));
    page_memory_ =
        mapping(received_.fds[0].get(), sizeof(worker_page), mapping::access::read_write);
    page_ = reinterpret_cast<worker_page*>(page_memory_.data());
  }
  /// The next message that the worker gets, or nothing.
  std::optional<serialization::worker_message_kind> next() {
    if (worker_.receive(received_)) return std::nullopt;
    return serialization::kind_of(received_.bytes);
  }
  void say(std::vector<std::byte> bytes) { ASSERT_FALSE(worker_.send(bytes)); }
  template <class Fields>
  void say(serialization::worker_message_kind kind, const Fields& fields) {
    say(serialization::pack_message(kind, fields));
  }
  std::vector<std::string> hear() {
    hearing ears;
    still_there_ = link_->read(ears);
    exception_ = ears.exception;
    return ears.heard;
  }
  /// Asks for a result segment; what the host answers.
  serialization::segment_message need(std::uint64_t bytes) {
    say(serialization::worker_message_kind::need_segment,
        serialization::need_segment_message{bytes});
    EXPECT_THAT(hear(), testing::IsEmpty());
    EXPECT_EQ(next(), serialization::worker_message_kind::segment);
    return serialization::unpack_message<serialization::segment_message>(received_.bytes);
  }
  static detail::blob payload_of(std::size_t size) {
    detail::blob payload(&argument_segments::instance());
    payload.resize_uninitialized(size);
    std::memset(payload.data(), 7, size);
    return payload;
  }

  std::size_t before_ = open_descriptors();
  serialization::setup_message setup_;
  std::optional<worker_link> link_;
  channel worker_;
  mapping page_memory_;
  worker_page* page_ = nullptr;
  message received_;
  bool still_there_ = true;
  std::vector<std::byte> exception_;
};

}  // namespace carom::runtime
