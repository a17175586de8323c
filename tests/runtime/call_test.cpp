// SPDX-License-Identifier: BSL-1.0
// Calls in processes that have other modules than the one that made them.
#include <gtest/gtest.h>

#include <algorithm>
#include <carom/call.hpp>
#include <carom/errors.hpp>
#include <string>
#include <vector>

#include "runtime/modules.hpp"

namespace carom::runtime {
namespace {

using detail::blob;
using detail::call_access;

int tripled(int x) { return 3 * x; }
int doubled(int x) { return 2 * x; }
int counted(const std::string& text) { return static_cast<int>(text.size()); }

class Calls : public testing::Test {
 protected:
  ~Calls() override { set_peer_modules({}); }

  static blob packed(const packed_call& call) {
    blob out;
    detail::encode(out, call);
    return out;
  }
  static packed_call read(const blob& bytes) {
    return std::get<0>(detail::decode<packed_call>(bytes.bytes()));
  }
  /// As a process of another build would have written it.
  static blob from_another_build(const packed_call& call) {
    blob bytes = packed(call);
    scan_modules();
    const std::string id = module_at(0).build_id;
    auto* const begin = reinterpret_cast<char*>(bytes.data());
    auto* const end = begin + bytes.size();
    int changed = 0;
    for (auto* at = begin; (at = std::search(at, end, id.begin(), id.end())) != end; ++changed)
      std::replace(at, at + id.size(), id[0], id[0] == '0' ? '1' : '0');
    EXPECT_EQ(changed, 2) << "of the function and of what unpacks its arguments";
    return bytes;
  }
  static int run(const packed_call& call) {
    blob result;
    call_access::run(call, result);
    return std::get<0>(detail::decode<int>(result.bytes()));
  }
};

TEST_F(Calls, AFunctionIsFoundInAnotherProcessOfTheSameBuild) {
  EXPECT_EQ(run(read(packed(call(tripled, 7)))), 21);
  EXPECT_EQ(run(read(packed(call([](int x) { return x + 1; }, 7)))), 8);
}

TEST_F(Calls, AFunctionOfAnotherBuildIsAnUnknownTask) {
  EXPECT_THROW(read(from_another_build(call(tripled, 7))), unknown_task);
  EXPECT_THROW(read(from_another_build(call([](int x) { return x + 1; }, 7))), unknown_task);
}

TEST_F(Calls, ANameIsUnderstoodInAnotherBuild) {
  register_task("tests.counted", counted);
  const packed_call received = read(from_another_build(call(counted, "four")));
  EXPECT_EQ(received.name(), "tests.counted");
  EXPECT_EQ(run(received), 4);
}

TEST_F(Calls, ANameForAFunctionOfAnotherTypeIsAnUnknownTask) {
  register_task("tests.twice", doubled);
  const blob bytes = from_another_build(call(doubled, 7));
  register_task("tests.renamed", doubled);
  EXPECT_THROW(read(bytes), unknown_task);
  register_task("tests.twice", counted);
  EXPECT_THROW(read(bytes), unknown_task);
}

TEST_F(Calls, AWorkersListOfModulesMayStandInAnyOrder) {
  const blob bytes = packed(call(tripled, 7));
  std::vector<module_info> modules{{"0123456789abcdef", ""}};
  for (std::size_t i = 0; i < module_count(); ++i) modules.push_back(module_at(i));
  std::reverse(modules.begin() + 1, modules.end());
  set_peer_modules(modules);
  EXPECT_EQ(run(read(bytes)), 21);
  EXPECT_EQ(run(call(tripled, 5)), 15) << "made in the worker";
  EXPECT_EQ(run(read(packed(read(bytes)))), 21) << "passed on";
}

}  // namespace
}  // namespace carom::runtime
