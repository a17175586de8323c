// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/form_values.hpp>

#include <algorithm>
#include <array>
#include <bitset>
#include <carom/detail/start_path.hpp>
#include <deque>
#include <forward_list>
#include <iterator>
#include <list>
#include <map>
#include <queue>
#include <set>
#include <stack>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <valarray>
#include <vector>

namespace carom::detail {

/// What every container starts with: the number of its elements.
inline constexpr std::size_t count_size = sizeof(std::uint64_t);

/// Elements that may take no byte at all could be promised in any number by eight bytes. Their
/// container is therefore padded to one byte an element, so that a count never exceeds the bytes
/// left.
template <class T>
class element_padding {
  static constexpr bool needed = form<T>::min_size == 0;

 public:
  template <class Stream>
  explicit element_padding(const Stream& stream) : start_{stream.position()} {}

  template <class Archive>
  void save(Archive& archive, std::size_t count) const {
    if constexpr (needed) archive.put_zeros(missing(archive, count));
  }
  template <class Archive>
  void load(Archive& archive, std::size_t count) const {
    if constexpr (needed) archive.get_zeros(missing(archive, count));
  }

 private:
  template <class Stream>
  std::size_t missing(const Stream& stream, std::size_t count) const {
    const std::size_t used = stream.position() - start_;
    return used < count ? count - used : 0;
  }

  std::size_t start_;
};

/// How many elements to make room for before any has been decoded: a count that lies costs no more
/// than a few times the bytes that came with it. Growth beyond that is paid by decoded elements.
template <class T>
std::size_t trusted_count(const byte_reader& in, std::size_t count) {
  return std::min(count, 4 * in.left() / sizeof(T) + 1);
}

/// The elements of a container whose storage is one array, copied at once.
template <class Container>
CAROM_START_PATH void load_bulk(byte_reader& in, Container& value) {
  using item = typename Container::value_type;
  const std::size_t count = in.get_count(sizeof(item));
  const std::byte* bytes = in.take(count * sizeof(item));
  if (reinterpret_cast<std::uintptr_t>(bytes) % alignof(item) == 0) {
    const auto* items = reinterpret_cast<const item*>(bytes);
    value.assign(items, items + count);
  } else {
    value.resize(count);
    if (count != 0) std::memcpy(value.data(), bytes, count * sizeof(item));
  }
}

template <class Container>
struct bulk_form {
  static constexpr bool travels = true;
  static constexpr bool plain = true;
  static constexpr std::size_t min_size = count_size;

  static void save(byte_writer& out, const Container& value) {
    out.put_count(value.size());
    out.put(value.data(), value.size() * sizeof(typename Container::value_type));
  }
  static void load(byte_reader& in, Container& value) { load_bulk(in, value); }
};

/// Containers that grow at their end.
template <class Container>
struct sequence_form {
  using item = typename Container::value_type;

  static constexpr bool travels = is_serializable_v<item>;
  static constexpr bool plain = form<item>::plain;
  static constexpr std::size_t min_size = count_size;

  template <class Archive>
  static void save(Archive& archive, const Container& value) {
    archive.put_count(static_cast<std::uint64_t>(std::distance(value.begin(), value.end())));
    const element_padding<item> padding{archive};
    std::size_t count = 0;
    for (const item& element : value) {
      detail::pack_new(archive, element);
      ++count;
    }
    padding.save(archive, count);
  }
  template <class Archive>
  static void load(Archive& archive, Container& value) {
    const std::size_t count = archive.get_count(form<item>::min_size);
    const element_padding<item> padding{archive};
    value.clear();
    if constexpr (requires { value.reserve(count); })
      value.reserve(trusted_count<item>(archive, count));
    for (std::size_t i = 0; i < count; ++i) append(archive, value);
    if constexpr (is_forward_list) value.reverse();
    padding.load(archive, count);
  }

 private:
  static constexpr bool is_forward_list = !requires(Container & c) { c.back(); };

  template <class Archive>
  static void append(Archive& archive, Container& value) {
    if constexpr (is_forward_list) {
      value.push_front(detail::unpack_new<item>(archive));
    } else if constexpr (loads_into_default<item>) {
      detail::unpack(archive, value.emplace_back());
    } else {
      value.push_back(detail::unpack_new<item>(archive));
    }
  }
};

template <class T, class A>
struct form<std::vector<T, A>> : std::conditional_t<is_bulk<T>, bulk_form<std::vector<T, A>>,
                                                    sequence_form<std::vector<T, A>>> {};
template <class C, class Traits, class A>
struct form<std::basic_string<C, Traits, A>> : bulk_form<std::basic_string<C, Traits, A>> {};
template <class T, class A>
struct form<std::deque<T, A>> : sequence_form<std::deque<T, A>> {};
template <class T, class A>
struct form<std::list<T, A>> : sequence_form<std::list<T, A>> {};
template <class T, class A>
struct form<std::forward_list<T, A>> : sequence_form<std::forward_list<T, A>> {};

/// Whether a type is all there is to know of a comparator, hash or equality.
template <class Rule>
inline constexpr bool is_bare_rule = std::is_empty_v<Rule>&& std::is_default_constructible_v<Rule>;

/// Sets and maps. Elements come in the container's order, so that each is inserted at the end.
/// `Rules` order or find them: they do not travel.
template <class Container, class... Rules>
struct associative_form {
  using item = typename Container::value_type;
  using key = typename Container::key_type;

  static constexpr bool has_stateful_rule = !(is_bare_rule<Rules> && ...);
  static constexpr bool travels = is_serializable_v<item> && !has_stateful_rule;
  static constexpr bool plain = form<item>::plain;
  static constexpr std::size_t min_size = count_size;

  template <class Archive>
  static void save(Archive& archive, const Container& value) {
    archive.put_count(value.size());
    const element_padding<item> padding{archive};
    for (const item& element : value) {
      if constexpr (is_map) {
        detail::pack_new(archive, element.first);
        detail::pack_new(archive, element.second);
      } else {
        detail::pack_new(archive, element);
      }
    }
    padding.save(archive, value.size());
  }
  template <class Archive>
  static void load(Archive& archive, Container& value) {
    const std::size_t count = archive.get_count(form<item>::min_size);
    const element_padding<item> padding{archive};
    value.clear();
    if constexpr (requires { value.reserve(count); })
      value.reserve(trusted_count<item>(archive, count));
    for (std::size_t i = 0; i < count; ++i) {
      key first = detail::unpack_new<key>(archive);
      if constexpr (is_map) {
        value.emplace_hint(value.end(), std::move(first),
                           detail::unpack_new<typename Container::mapped_type>(archive));
      } else {
        value.emplace_hint(value.end(), std::move(first));
      }
    }
    padding.load(archive, count);
    if (value.size() != count) throw_corrupt("a key of a map or set comes twice");
  }

 private:
  static constexpr bool is_map = requires { typename Container::mapped_type; };
};

template <class K, class C, class A>
struct form<std::set<K, C, A>> : associative_form<std::set<K, C, A>, C> {};
template <class K, class C, class A>
struct form<std::multiset<K, C, A>> : associative_form<std::multiset<K, C, A>, C> {};
template <class K, class V, class C, class A>
struct form<std::map<K, V, C, A>> : associative_form<std::map<K, V, C, A>, C> {};
template <class K, class V, class C, class A>
struct form<std::multimap<K, V, C, A>> : associative_form<std::multimap<K, V, C, A>, C> {};
template <class K, class H, class E, class A>
struct form<std::unordered_set<K, H, E, A>>
    : associative_form<std::unordered_set<K, H, E, A>, H, E> {};
template <class K, class H, class E, class A>
struct form<std::unordered_multiset<K, H, E, A>>
    : associative_form<std::unordered_multiset<K, H, E, A>, H, E> {};
template <class K, class V, class H, class E, class A>
struct form<std::unordered_map<K, V, H, E, A>>
    : associative_form<std::unordered_map<K, V, H, E, A>, H, E> {};
template <class K, class V, class H, class E, class A>
struct form<std::unordered_multimap<K, V, H, E, A>>
    : associative_form<std::unordered_multimap<K, V, H, E, A>, H, E> {};

/// A number of elements that the type fixes: no count.
template <class Archive, class T>
void pack_array(Archive& archive, const T* items, std::size_t count) {
  if constexpr (is_bulk<T>) {
    archive.put(items, count * sizeof(T));
  } else {
    for (std::size_t i = 0; i < count; ++i) detail::pack(archive, items[i]);
  }
}
template <class Archive, class T>
void unpack_array(Archive& archive, T* items, std::size_t count) {
  if constexpr (is_bulk<T>) {
    if (count > archive.left() / sizeof(T)) throw_too_many(count, archive.left());
    archive.get(static_cast<void*>(items), count * sizeof(T));
  } else {
    for (std::size_t i = 0; i < count; ++i) detail::unpack(archive, items[i]);
  }
}

template <class Array, class T, std::size_t N>
struct array_form {
  static constexpr bool travels = is_serializable_v<T>;
  static constexpr bool plain = form<std::remove_cv_t<T>>::plain;
  static constexpr std::size_t min_size = N * form<std::remove_cv_t<T>>::min_size;

  template <class Archive>
  static void save(Archive& archive, const Array& value) {
    detail::pack_array(archive, std::data(value), N);
  }
  template <class Archive>
  static void load(Archive& archive, Array& value) {
    detail::unpack_array(archive, std::data(value), N);
  }
};
template <class T, std::size_t N>
struct form<std::array<T, N>> : array_form<std::array<T, N>, T, N> {};
template <class T, std::size_t N>
struct form<T[N]> : array_form<T[N], T, N> {};

template <class T>
struct form<std::valarray<T>> {
  static constexpr bool travels = is_serializable_v<T>;
  static constexpr bool plain = form<T>::plain;
  static constexpr std::size_t min_size = count_size;

  template <class Archive>
  static void save(Archive& archive, const std::valarray<T>& value) {
    detail::pack(archive, std::vector<T>(std::begin(value), std::end(value)));
  }
  template <class Archive>
  static void load(Archive& archive, std::valarray<T>& value) {
    std::vector<T> items;
    detail::unpack(archive, items);
    value.resize(items.size());
    std::move(items.begin(), items.end(), std::begin(value));
  }
};

/// Eight to a byte, the first in the lowest bit.
template <class Bits>
void pack_bits(byte_writer& out, const Bits& bits, std::size_t count) {
  for (std::size_t i = 0; i < count; i += 8) {
    unsigned byte = 0;
    for (std::size_t j = 0; j < std::min<std::size_t>(8, count - i); ++j)
      byte |= static_cast<unsigned>(bits[i + j] ? 1 : 0) << j;
    out.put_raw(static_cast<std::uint8_t>(byte));
  }
}
template <class Bits>
void unpack_bits(byte_reader& in, Bits& bits, std::size_t count) {
  for (std::size_t i = 0; i < count; i += 8) {
    unsigned byte = in.get_raw<std::uint8_t>();
    for (std::size_t j = 0; j < std::min<std::size_t>(8, count - i); ++j, byte >>= 1)
      bits[i + j] = (byte & 1) != 0;
    if (count - i < 8 && byte != 0) throw_corrupt("bits after the last of a vector<bool>");
  }
}

template <class A>
struct form<std::vector<bool, A>> {
  static constexpr bool travels = true;
  static constexpr bool plain = true;
  static constexpr std::size_t min_size = count_size;

  static void save(byte_writer& out, const std::vector<bool, A>& value) {
    out.put_count(value.size());
    pack_bits(out, value, value.size());
  }
  static void load(byte_reader& in, std::vector<bool, A>& value) {
    const auto count = in.get_raw<std::uint64_t>();
    if (count / 8 + (count % 8 != 0) > in.left()) throw_too_many(count, in.left());
    value.resize(count);
    unpack_bits(in, value, count);
  }
};

template <std::size_t N>
struct form<std::bitset<N>> {
  static constexpr bool travels = true;
  static constexpr bool plain = true;
  static constexpr std::size_t min_size = (N + 7) / 8;

  static void save(byte_writer& out, const std::bitset<N>& value) { pack_bits(out, value, N); }
  static void load(byte_reader& in, std::bitset<N>& value) { unpack_bits(in, value, N); }
};

/// stack, queue and priority_queue travel as the container inside.
template <class Adaptor, class... Rules>
struct adaptor_form {
  using container = typename Adaptor::container_type;

  static constexpr bool has_stateful_rule = !(is_bare_rule<Rules> && ...);
  static constexpr bool travels = is_serializable_v<container> && !has_stateful_rule;
  static constexpr bool plain = form<container>::plain;
  static constexpr std::size_t min_size = count_size;

  template <class Archive>
  static void save(Archive& archive, const Adaptor& value) {
    detail::pack(archive, value.*opened::inside());
  }
  template <class Archive>
  static void load(Archive& archive, Adaptor& value) {
    detail::unpack(archive, value.*opened::inside());
    opened::repair(value);
  }

 private:
  struct opened : Adaptor {
    static container Adaptor::*inside() { return &opened::c; }
    static void repair(Adaptor& value) {
      if constexpr (requires { typename Adaptor::value_compare; }) {
        auto& items = value.*inside();
        std::make_heap(items.begin(), items.end(), value.*(&opened::comp));
      }
    }
  };
};
template <class T, class C>
struct form<std::stack<T, C>> : adaptor_form<std::stack<T, C>> {};
template <class T, class C>
struct form<std::queue<T, C>> : adaptor_form<std::queue<T, C>> {};
template <class T, class C, class Compare>
struct form<std::priority_queue<T, C, Compare>>
    : adaptor_form<std::priority_queue<T, C, Compare>, Compare> {};

}  // namespace carom::detail
