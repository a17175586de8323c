// SPDX-License-Identifier: BSL-1.0
#include "tests/serialization/samples.hpp"

#include "tests/serialization/travelling_types.hpp"

#include <boost/unordered_map.hpp>
#include <boost/unordered_set.hpp>

#include <bitset>
#include <chrono>
#include <complex>
#include <deque>
#include <filesystem>
#include <forward_list>
#include <limits>
#include <list>
#include <map>
#include <optional>
#include <queue>
#include <set>
#include <stack>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
#include <valarray>
#include <variant>

BOOST_CLASS_EXPORT_IMPLEMENT(travelling::square)
BOOST_CLASS_EXPORT_IMPLEMENT(travelling::flag)
BOOST_CLASS_EXPORT_IMPLEMENT(travelling::stranger)

namespace travelling {

namespace {

using nanoseconds = std::chrono::nanoseconds;
using system_time = std::chrono::system_clock::time_point;
using any_of = std::variant<std::monostate, int, std::string, std::vector<double>>;
using two_shared = std::pair<std::shared_ptr<record>, std::shared_ptr<const record>>;
using record_map = std::map<std::string, record>;
using text_multimap = std::multimap<int, std::string>;
using vector_table = std::unordered_map<int, std::vector<int>>;
using number_multitable = std::unordered_multimap<std::string, int>;
using boost_table = boost::unordered_map<int, std::vector<int>>;
using boost_multitable = boost::unordered_multimap<std::string, int>;
using three_numbers = std::array<int, 3>;
using two_texts = std::array<std::string, 2>;
using four_bits = std::array<bool, 4>;
using numbered = std::pair<int, std::string>;
using mixed = std::tuple<int, secretive, std::tuple<std::string>>;

/// A sample is made by `value()`; `same` tells whether what came back is equal, whatever came: the
/// fuzzers ask it of hostile bytes' values.
template <class T>
struct sample;

template <class Pointer>
bool same_target(const Pointer& a, const Pointer& b) {
  return a && b ? *a == *b : !a == !b;
}

#define CAROM_SAMPLE(TYPE, ...)                                       \
  template <>                                                         \
  struct sample<TYPE> {                                               \
    static TYPE value() { return __VA_ARGS__; }                       \
    static bool same(const TYPE& a, const TYPE& b) { return a == b; } \
  }

inline record some_record() { return {7, 1.5, "a record", {1, 2, 3}}; }
inline tree some_tree() { return {1, {{2, {}}, {3, {{4, {}}}}}}; }

CAROM_SAMPLE(bool, true);
CAROM_SAMPLE(char, 'x');
CAROM_SAMPLE(std::int16_t, -300);
CAROM_SAMPLE(int, -123456);
CAROM_SAMPLE(std::uint64_t, std::numeric_limits<std::uint64_t>::max());
CAROM_SAMPLE(float, 1.25F);
CAROM_SAMPLE(double, -0.0);
CAROM_SAMPLE(char32_t, U'\u20ac');
CAROM_SAMPLE(std::byte, std::byte{0xfe});
CAROM_SAMPLE(colour, colour::blue);
CAROM_SAMPLE(std::complex<double>, {1.5, -2});
CAROM_SAMPLE(std::string, std::string("zero \0 inside", 13));
CAROM_SAMPLE(std::wstring, L"wide \u20ac");
CAROM_SAMPLE(std::u16string, u"sixteen");
CAROM_SAMPLE(std::u8string, u8"eight");
CAROM_SAMPLE(std::vector<int>, {1, 2, 3});
CAROM_SAMPLE(std::vector<double>, {});
CAROM_SAMPLE(std::vector<std::string>, {"", "a", std::string(100, 'b')});
CAROM_SAMPLE(std::vector<bool>, {true, false, true, true, false, false, false, true, true});
CAROM_SAMPLE(std::vector<std::vector<short>>, {{1, 2}, {}, {3}});
CAROM_SAMPLE(std::vector<empty>, std::vector<empty>(5));
CAROM_SAMPLE(std::vector<bulky>, std::vector<bulky>(3));
CAROM_SAMPLE(std::vector<std::monostate>, std::vector<std::monostate>(9));
CAROM_SAMPLE(std::vector<bitwise>, {{1, 2}, {3, 4}});
CAROM_SAMPLE(std::vector<built>, {built("one"), built("two")});
CAROM_SAMPLE(std::deque<std::string>, {"front", "back"});
CAROM_SAMPLE(std::deque<bool>, {true, false});
CAROM_SAMPLE(std::list<int>, {3, 1, 2});
CAROM_SAMPLE(std::forward_list<std::string>, {"1st", "2nd", "3rd"});
CAROM_SAMPLE(std::set<int>, {3, 1, 2});
CAROM_SAMPLE(std::multiset<std::string>, {"b", "a", "b"});
CAROM_SAMPLE(std::set<empty>, {empty{}});
CAROM_SAMPLE(std::unordered_set<std::string>, {"b", "a", "c"});
CAROM_SAMPLE(std::unordered_multiset<int>, {1, 1, 2});
CAROM_SAMPLE(record_map, {{"a", some_record()}, {"b", {}}});
CAROM_SAMPLE(text_multimap, {{1, "x"}, {1, "y"}, {2, "z"}});
CAROM_SAMPLE(vector_table, {{1, {1, 2}}, {2, {}}});
CAROM_SAMPLE(number_multitable, {{"a", 1}, {"a", 2}});
CAROM_SAMPLE(three_numbers, {1, 2, 3});
CAROM_SAMPLE(two_texts, {"x", "yy"});
CAROM_SAMPLE(four_bits, {true, false, false, true});
CAROM_SAMPLE(numbered, {1, "one"});
CAROM_SAMPLE(mixed, {1, secretive{2}, {"three"}});
CAROM_SAMPLE(std::optional<std::string>, "value");
CAROM_SAMPLE(std::optional<built>, built("value"));
CAROM_SAMPLE(std::optional<std::optional<int>>, std::optional<std::optional<int>>{std::in_place});
CAROM_SAMPLE(any_of, std::vector<double>{1, 2});
CAROM_SAMPLE(nanoseconds, nanoseconds{-5});
CAROM_SAMPLE(std::chrono::duration<double>, std::chrono::duration<double>{0.25});
CAROM_SAMPLE(system_time, system_time{std::chrono::seconds{1'700'000'000}});
CAROM_SAMPLE(std::filesystem::path, "/usr/share/doc");
CAROM_SAMPLE(std::bitset<11>, std::bitset<11>{0b101'0000'0001});
template <>
struct sample<std::valarray<double>> {
  using type = std::valarray<double>;
  static type value() { return {1, 2, 3}; }
  static bool same(const type& a, const type& b) { return a.size() == b.size() && (a == b).min(); }
};
CAROM_SAMPLE(std::stack<int>, std::stack<int>{{1, 2, 3}});
CAROM_SAMPLE(std::queue<std::string>, std::queue<std::string>{{"a", "b"}});
template <>
struct sample<std::priority_queue<int>> {
  using type = std::priority_queue<int>;
  static type value() { return type{{}, {1, 5, 3}}; }
  static bool same(const type& a, const type& b) {
    return a.size() == b.size() && a.top() == b.top();
  }
};
CAROM_SAMPLE(record, some_record());
CAROM_SAMPLE(interned, {"a text"});
CAROM_SAMPLE(std::vector<interned>, {{"first"}, {"second"}, {"first"}});
CAROM_SAMPLE(boosts_own, {{{1, "x"}, {2, "y"}}});
CAROM_SAMPLE(boost::unordered_set<std::string>, {"b", "a", "c"});
CAROM_SAMPLE(boost::unordered_multiset<int>, {1, 1, 2});
CAROM_SAMPLE(boost_table, {{1, {1, 2}}, {2, {}}});
CAROM_SAMPLE(boost_multitable, {{"a", 1}, {"a", 2}});
CAROM_SAMPLE(secretive, secretive{42});
CAROM_SAMPLE(built, built("house"));
CAROM_SAMPLE(split, {77});
CAROM_SAMPLE(free_function, {5});
CAROM_SAMPLE(arrays, {});
CAROM_SAMPLE(bitwise, {1, 2});
CAROM_SAMPLE(tree, some_tree());
template <>
struct sample<std::unique_ptr<int>> {
  using type = std::unique_ptr<int>;
  static type value() { return std::make_unique<int>(5); }
  static bool same(const type& a, const type& b) { return same_target(a, b); }
};
template <>
struct sample<std::unique_ptr<const built>> {
  using type = std::unique_ptr<const built>;
  static type value() { return std::make_unique<built>("unique"); }
  static bool same(const type& a, const type& b) { return same_target(a, b); }
};
template <>
struct sample<chain> {
  static chain value() {
    chain first;
    for (int i = 0; i < 5; ++i) first = {i, std::make_unique<chain>(std::move(first))};
    return first;
  }
  static bool same(const chain& a, const chain& b) {
    if (a.value != b.value || !a.next != !b.next) return false;
    return !a.next || same(*a.next, *b.next);
  }
};
template <>
struct sample<std::shared_ptr<record>> {
  using type = std::shared_ptr<record>;
  static type value() { return std::make_shared<record>(some_record()); }
  static bool same(const type& a, const type& b) { return same_target(a, b); }
};
template <>
struct sample<two_shared> {
  static two_shared value() {
    const auto one = std::make_shared<record>(some_record());
    return {one, one};
  }
  static bool same(const two_shared& a, const two_shared& b) {
    return same_target(a.first, b.first) && b.first == b.second;
  }
};
template <>
struct sample<std::shared_ptr<family>> {
  using type = std::shared_ptr<family>;
  static type value() {
    const auto parent = std::make_shared<family>();
    parent->value = 1;
    for (int i = 2; i < 4; ++i) {
      parent->children.push_back(std::make_shared<family>());
      parent->children.back()->value = i;
      parent->children.back()->parent = parent;
    }
    return parent;
  }
  static bool same(const type& a, const type& b) {
    if (!a || !b) return a == b;
    if (a->value != b->value || a->children.size() != b->children.size()) return false;
    for (std::size_t i = 0; i < b->children.size(); ++i) {
      const type& child = b->children[i];
      if (!child || child->parent.lock() != b || !same(a->children[i], child)) return false;
    }
    return true;
  }
};
template <>
struct sample<std::unique_ptr<shape>> {
  using type = std::unique_ptr<shape>;
  static type value() {
    auto value = std::make_unique<square>();
    value->id = 3;
    value->side = 2;
    return value;
  }
  static bool same(const type& a, const type& b) {
    if (!a || !b) return a == b;
    const shape &one = *a, &other = *b;
    return typeid(one) == typeid(other) && a->id == b->id && a->area() == b->area();
  }
};
template <>
struct sample<std::vector<std::shared_ptr<shape>>> {
  using type = std::vector<std::shared_ptr<shape>>;
  static type value() {
    auto banner = std::make_shared<flag>();
    banner->name = "tricolour";
    banner->id = 8;
    banner->stripes = {colour::blue, colour::red};
    return {sample<std::unique_ptr<shape>>::value(), banner, banner, nullptr};
  }
  static bool same(const type& a, const type& b) {
    if (a.size() != 4 || b.size() != 4 || !b[0] || a[0]->area() != b[0]->area()) return false;
    const auto* banner = dynamic_cast<const flag*>(b[1].get());
    return banner != nullptr && a[1]->area() == banner->area() && b[1] == b[2] && !b[3] &&
           banner->name == "tricolour" && banner->id == 8;
  }
};

#undef CAROM_SAMPLE

template <class T>
struct operations {
  static void encode(carom::detail::blob& out) { carom::detail::encode(out, sample<T>::value()); }
  static bool decodes(std::span<const std::byte> bytes) {
    return sample<T>::same(sample<T>::value(), std::get<0>(carom::detail::decode<T>(bytes)));
  }
  static void round_trip(std::span<const std::byte> bytes) {
    const auto first = carom::detail::decode<T>(bytes);
    carom::detail::blob again;
    carom::detail::encode(again, std::get<0>(first));
    (void)carom::detail::decode<T>(again.bytes());
  }
  static void put(carom::detail::item_writer& writer) { writer.put(sample<T>::value()); }
  static bool next(carom::detail::item_reader& reader) {
    return sample<T>::same(sample<T>::value(), reader.next<T>());
  }
  static void skip(carom::detail::item_reader& reader) { reader.skip<T>(); }
  static void append(carom::detail::blob& out) {
    carom::detail::append_value(out, sample<T>::value());
  }
  static bool next_value(carom::detail::item_reader& reader) {
    return sample<T>::same(sample<T>::value(), carom::detail::next_value<T>(reader));
  }
};

template <class... Ts>
constexpr std::array<sample_type, sizeof...(Ts)> operations_of{
    {{&typeid(Ts), operations<Ts>::encode, operations<Ts>::decodes, operations<Ts>::round_trip,
      operations<Ts>::put, operations<Ts>::next, operations<Ts>::skip, operations<Ts>::append,
      operations<Ts>::next_value}...}};

}  // namespace

std::span<const sample_type> sample_types() {
  return operations_of<
      bool, char, std::int16_t, int, std::uint64_t, float, double, char32_t, std::byte, colour,
      std::complex<double>, std::string, std::wstring, std::u16string, std::u8string,
      std::vector<int>, std::vector<double>, std::vector<std::string>, std::vector<bool>,
      std::vector<std::vector<short>>, std::vector<empty>, std::vector<bulky>,
      std::vector<std::monostate>, std::vector<bitwise>, std::vector<built>,
      std::deque<std::string>, std::deque<bool>, std::list<int>, std::forward_list<std::string>,
      std::set<int>, std::multiset<std::string>, std::set<empty>, std::unordered_set<std::string>,
      std::unordered_multiset<int>, record_map, text_multimap, vector_table, number_multitable,
      boost::unordered_set<std::string>, boost::unordered_multiset<int>, boost_table,
      boost_multitable, interned, std::vector<interned>, boosts_own, three_numbers, two_texts,
      four_bits, numbered, mixed, std::optional<std::string>, std::optional<built>,
      std::optional<std::optional<int>>, any_of, nanoseconds, std::chrono::duration<double>,
      system_time, std::filesystem::path, std::bitset<11>, std::valarray<double>, std::stack<int>,
      std::queue<std::string>, std::priority_queue<int>, record, secretive, built, split,
      free_function, arrays, bitwise, tree, std::unique_ptr<int>, std::unique_ptr<const built>,
      chain, std::shared_ptr<record>, two_shared, std::shared_ptr<family>, std::unique_ptr<shape>,
      std::vector<std::shared_ptr<shape>>>;
}

}  // namespace travelling
