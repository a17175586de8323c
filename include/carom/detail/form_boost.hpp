// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/form_containers.hpp>

#include <boost/serialization/array_wrapper.hpp>
#include <boost/serialization/collection_size_type.hpp>
#include <boost/serialization/item_version_type.hpp>
#include <boost/serialization/library_version_type.hpp>
#include <boost/serialization/nvp.hpp>

#include <cstdint>

// The vocabulary that a `serialize` written for Boost's archives uses.

// Only named here: who has such containers has included them.
namespace boost::unordered {
template <class K, class H, class E, class A>
class unordered_set;
template <class K, class H, class E, class A>
class unordered_multiset;
template <class K, class V, class H, class E, class A>
class unordered_map;
template <class K, class V, class H, class E, class A>
class unordered_multimap;
}  // namespace boost::unordered

namespace carom::detail {

/// Names are for XML: the value alone travels.
template <class T>
struct form<boost::serialization::nvp<T>> {
  static constexpr bool travels = true;
  static constexpr bool plain = false;
  static constexpr std::size_t min_size = 0;

  template <class Archive>
  static void save(Archive& archive, const boost::serialization::nvp<T>& pair) {
    detail::pack(archive, pair.const_value());
  }
  template <class Archive>
  static void load(Archive& archive, const boost::serialization::nvp<T>& pair) {
    detail::unpack(archive, pair.value());
  }
};

template <class T>
struct form<boost::serialization::array_wrapper<T>> {
  static constexpr bool travels = true;
  static constexpr bool plain = false;
  static constexpr std::size_t min_size = 0;

  template <class Archive>
  static void save(Archive& archive, const boost::serialization::array_wrapper<T>& array) {
    detail::pack_array(archive, array.address(), array.count());
  }
  template <class Archive>
  static void load(Archive& archive, const boost::serialization::array_wrapper<T>& array) {
    detail::unpack_array(archive, array.address(), array.count());
  }
};

// Boost's own loaders believe a number of buckets, which may be more than there are bytes.
template <class K, class H, class E, class A>
struct form<boost::unordered::unordered_set<K, H, E, A>>
    : associative_form<boost::unordered::unordered_set<K, H, E, A>, H, E> {};
template <class K, class H, class E, class A>
struct form<boost::unordered::unordered_multiset<K, H, E, A>>
    : associative_form<boost::unordered::unordered_multiset<K, H, E, A>, H, E> {};
template <class K, class V, class H, class E, class A>
struct form<boost::unordered::unordered_map<K, V, H, E, A>>
    : associative_form<boost::unordered::unordered_map<K, V, H, E, A>, H, E> {};
template <class K, class V, class H, class E, class A>
struct form<boost::unordered::unordered_multimap<K, V, H, E, A>>
    : associative_form<boost::unordered::unordered_multimap<K, V, H, E, A>, H, E> {};

/// The count that a loader written for Boost believes: it gets none above the bytes that are left.
template <>
struct form<boost::serialization::collection_size_type> {
  static constexpr bool travels = true;
  static constexpr bool plain = true;
  static constexpr std::size_t min_size = count_size;

  static void save(byte_writer& out, const boost::serialization::collection_size_type& count) {
    out.put_count(count);
  }
  static void load(byte_reader& in, boost::serialization::collection_size_type& count) {
    count = in.get_count();
  }
};

template <class T>
struct version_form {
  static constexpr bool travels = true;
  static constexpr bool plain = true;
  static constexpr std::size_t min_size = sizeof(std::uint32_t);

  static void save(byte_writer& out, const T& version) {
    out.put_raw(static_cast<std::uint32_t>(version));
  }
  static void load(byte_reader& in, T& version) {
    const auto number = in.get_raw<std::uint32_t>();
    if (number > 0xffff) throw_corrupt("a version number is out of range");
    version = T(number);
  }
};
template <>
struct form<boost::serialization::item_version_type>
    : version_form<boost::serialization::item_version_type> {};
template <>
struct form<boost::serialization::library_version_type>
    : version_form<boost::serialization::library_version_type> {};

}  // namespace carom::detail
