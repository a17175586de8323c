// SPDX-License-Identifier: BSL-1.0
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <carom/detail/codec.hpp>
#include <carom/file_descriptor.hpp>
#include <memory>
#include <optional>
#include <stdexcept>
#include <vector>

namespace carom::detail {
namespace {

file_descriptor any_file() { return file_descriptor(::open("/dev/null", O_RDONLY | O_CLOEXEC)); }

bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

struct refuses {
  template <class Archive>
  void serialize(Archive&, unsigned) {
    throw std::runtime_error("no");
  }
};

TEST(Descriptors, TravelBesideTheBytes) {
  blob packed;
  encode(packed, any_file(), 7);
  ASSERT_EQ(packed.descriptor_count(), 1u);
  const descriptor_scope in_reach(packed.find_descriptors());
  const auto [file, number] = decode<file_descriptor, int>(packed.bytes());
  EXPECT_TRUE(is_open(file.get()));
  EXPECT_NE(file.get(), packed.find_descriptors()->entries()[0].fd);
  EXPECT_EQ(number, 7);
}

TEST(Descriptors, TravelInsideOfOtherValues) {
  blob packed;
  std::vector<file_descriptor> files(3);
  files[1] = any_file();
  encode(packed, files, std::optional(any_file()), std::make_unique<file_descriptor>(any_file()));
  ASSERT_EQ(packed.descriptor_count(), 3u);
  const descriptor_scope in_reach(packed.find_descriptors());
  const auto [several, maybe, owned] =
      decode<std::vector<file_descriptor>, std::optional<file_descriptor>,
             std::unique_ptr<file_descriptor>>(packed.bytes());
  EXPECT_FALSE(several[0]);
  EXPECT_TRUE(is_open(several[1].get()));
  EXPECT_TRUE(is_open(maybe->get()));
  EXPECT_TRUE(is_open(owned->get()));
}

TEST(Descriptors, ThatDidNotArriveAreAnError) {
  blob packed;
  encode(packed, any_file());
  EXPECT_THROW(decode<file_descriptor>(packed.bytes()), encoding_error) << "none is in reach";
  blob other;
  encode(other, any_file());
  const descriptor_scope in_reach(other.find_descriptors());
  EXPECT_THROW(decode<file_descriptor>(packed.bytes()), encoding_error) << "another's ticket";
}

TEST(Descriptors, OfAValueThatCannotBePackedAreClosed) {
  blob packed;
  encode(packed, any_file());
  EXPECT_THROW(encode(packed, any_file(), refuses{}), encoding_error);
  EXPECT_EQ(packed.descriptor_count(), 1u);
}

TEST(Descriptors, AreClosedWithTheirBlob) {
  int fd = -1;
  {
    blob packed;
    encode(packed, any_file());
    blob moved = std::move(packed);
    EXPECT_FALSE(packed.has_descriptors());
    fd = moved.find_descriptors()->entries()[0].fd;
    EXPECT_TRUE(is_open(fd));
  }
  EXPECT_FALSE(is_open(fd));
}

TEST(Descriptors, ListsComeTogetherByTicket) {
  blob one, two;
  encode(one, any_file());
  encode(two, any_file());
  descriptor_list all = one.find_descriptors()->duplicate();
  all.merge(two.find_descriptors()->duplicate());
  all.merge(two.find_descriptors()->duplicate());
  EXPECT_EQ(all.size(), 2u) << "the same ticket twice is one descriptor";
  const descriptor_scope in_reach(&all);
  EXPECT_TRUE(std::get<0>(decode<file_descriptor>(one.bytes())));
  EXPECT_TRUE(std::get<0>(decode<file_descriptor>(two.bytes())));
}

TEST(Descriptors, ThereAreNotTooManyInOneMessage) {
  descriptor_list list;
  const file_descriptor file = any_file();
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  const rlimit raised{std::min<rlim_t>(limit.rlim_max, 4096), limit.rlim_max};
  ::setrlimit(RLIMIT_NOFILE, &raised);
  EXPECT_THROW(
      {
        for (std::size_t i = 0; i <= descriptor_list::most; ++i) list.attach(file.get());
      },
      encoding_error);
  list.clear();
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace
}  // namespace carom::detail
