// SPDX-License-Identifier: BSL-1.0
#include <gtest/gtest.h>

#include <vector>

#include "serialization/fork_messages.hpp"

namespace carom::serialization {
namespace {

const std::vector<fork_message> samples{fork_request{7},
                                        signal_request{1, 2, 64},
                                        adopt_request{3, 4},
                                        resume{UINT64_MAX},
                                        reap_order{5},
                                        gone{6},
                                        forked{8, 9},
                                        fork_failed{10, 11},
                                        exited{12, 13, -1, true, 14, 15, 16},
                                        signalled{17},
                                        servers{18, 19, 20},
                                        forker_ready{},
                                        leave_order{}};

TEST(ForkMessages, ComeBackAsTheyWere) {
  EXPECT_EQ(samples.size(), std::variant_size_v<fork_message>);
  for (const fork_message& message : samples) {
    const fork_frame frame = encode(message);
    const auto decoded = decode_fork_message(frame.bytes());
    ASSERT_TRUE(decoded) << message.index();
    EXPECT_EQ(*decoded, message) << message.index();
  }
}

TEST(ForkMessages, TruncatedOrLengthenedAreRefused) {
  EXPECT_FALSE(decode_fork_message({}));
  for (const fork_message& message : samples) {
    const fork_frame frame = encode(message);
    for (std::size_t size = 0; size != frame.size; ++size)
      EXPECT_FALSE(decode_fork_message(frame.bytes().first(size))) << message.index();
    std::vector<std::byte> longer{frame.bytes().begin(), frame.bytes().end()};
    longer.push_back({});
    EXPECT_FALSE(decode_fork_message(longer)) << message.index();
  }
}

TEST(ForkMessages, UnknownKindsAreRefused) {
  for (std::size_t kind = std::variant_size_v<fork_message>; kind <= 255; ++kind)
    EXPECT_FALSE(decode_fork_message(std::vector<std::byte>(9, static_cast<std::byte>(kind))));
}

TEST(ForkMessages, NumbersThatWouldSignalOthersAreRefused) {
  for (const fork_message& message : std::vector<fork_message>{
           signal_request{1, 2, 65}, signal_request{1, 2, -1}, adopt_request{3, 0},
           adopt_request{3, -1}, forked{8, -1}, forked{8, 0}, exited{12, -13, 0, true, 0, 0, 0},
           servers{18, 0, 20}, servers{18, 19, -1}, fork_failed{1, 0}})
    EXPECT_FALSE(decode_fork_message(encode(message).bytes())) << message.index();
  fork_frame frame = encode(exited{12, 13, 0, true, 0, 0, 0});
  frame.data[1 + 8 + 4 + 4] = std::byte{2};
  EXPECT_FALSE(decode_fork_message(frame.bytes()));
}

}  // namespace
}  // namespace carom::serialization
