// SPDX-License-Identifier: BSL-1.0
#include "tests/serialization/travelling_types.hpp"

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <queue>
#include <span>
#include <string_view>
#include <tuple>
#include <variant>

namespace {

using carom::detail::is_serializable_v;
using namespace travelling;

struct mute {
  int value;
};
class mute_base {
 public:
  virtual ~mute_base() = default;
};
enum plain_enum : int { one };
union either {
  int number;
  float real;
};
struct final_one final {
  template <class Archive>
  void serialize(Archive&, unsigned) {}
};
struct inherits : record {};

template <class T>
concept constrained = std::same_as<T, mute_base>;
template <class Archive, constrained T>
void serialize(Archive&, T&, unsigned) {}

template <class... Ts>
constexpr bool none = (!is_serializable_v<Ts> && ...);
template <class... Ts>
constexpr bool every = (is_serializable_v<Ts> && ...);

TEST(Serializable, holds_for_what_has_serialize_or_is_standard) {
  EXPECT_TRUE((every<plain_enum, final_one, inherits, const record, int[3], std::tuple<>>));
  EXPECT_TRUE((every<mute_base>)) << "a constrained free function counts";
  EXPECT_TRUE((every<std::unique_ptr<shape>, std::weak_ptr<record>>));
}

TEST(Serializable, does_not_hold_for_what_has_none) {
  EXPECT_TRUE((none<mute, either, mute[3], std::function<int()>, std::mutex>));
}

TEST(Serializable, looks_into_containers_and_pointers) {
  EXPECT_TRUE((none<std::vector<mute>, std::vector<std::vector<mute>>, std::map<int, mute>,
                    std::map<mute, int>, std::optional<mute>, std::variant<int, mute>,
                    std::pair<mute, int>, std::tuple<int, mute>, std::array<mute, 2>,
                    std::unique_ptr<mute>, std::shared_ptr<mute>, std::queue<mute>>));
}

TEST(Serializable, does_not_hold_for_what_owns_nothing) {
  EXPECT_TRUE((none<int*, const char*, void*, void (*)(), int mute::*, std::nullptr_t,
                    std::string_view, std::span<int>, std::reference_wrapper<int>,
                    std::vector<std::string_view>, std::unique_ptr<int[]>>));
}

TEST(Serializable, tells_which_values_need_no_archive) {
  using carom::detail::needs_no_archive;
  EXPECT_TRUE((needs_no_archive<std::map<std::string, std::vector<std::optional<int>>>>));
  EXPECT_FALSE(needs_no_archive<record>);
  EXPECT_FALSE((needs_no_archive<std::vector<record>>));
  EXPECT_FALSE(needs_no_archive<std::unique_ptr<int>>);
}

}  // namespace
