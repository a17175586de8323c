// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/form.hpp>
#include <carom/detail/type_registry.hpp>

#include <boost/archive/detail/register_archive.hpp>
#include <boost/serialization/export.hpp>
#include <boost/serialization/extended_type_info.hpp>

#include <memory>
#include <new>
#include <type_traits>
#include <typeinfo>

namespace carom::detail {

class packed_oarchive;
class packed_iarchive;

/// What can be done with an object of a registered class that is known by its address only.
struct polymorphic_operations {
  const registered_type* entry;
  void (*save)(packed_oarchive&, const void* object);
  void (*load)(packed_iarchive&, void* object);
  void* (*make)(packed_iarchive&);
  std::shared_ptr<void> (*make_shared)(packed_iarchive&);
  void (*destroy)(void* object);
};

/// Classes named in BOOST_CLASS_EXPORT, or in an archive's `register_type`.
CAROM_API type_registry& polymorphic_types() noexcept;

/// The registered class; throws encoding_error when there is none.
CAROM_API const polymorphic_operations& find_polymorphic(const std::type_info& type,
                                                         const std::type_info& pointer);
CAROM_API const polymorphic_operations& find_polymorphic(std::string_view name);

/// Where in an object of class `from` its public base `to` begins; throws encoding_error when it
/// has no such base.
CAROM_API void* upcast(const std::type_info& from, const std::type_info& to, void* object);

/// A new object to load into. `delete` ends it.
template <class T, class Archive>
T* make_object(Archive& archive) {
  if constexpr (std::default_initializable<T>) {
    return new T();
  } else {
    void* place;
    if constexpr (alignof(T) > __STDCPP_DEFAULT_NEW_ALIGNMENT__)
      place = ::operator new (sizeof(T), std::align_val_t{alignof(T)});
    else
      place = ::operator new(sizeof(T));
    struct guard {
      void* place;
      ~guard() {
        if (place == nullptr) return;
        if constexpr (alignof(T) > __STDCPP_DEFAULT_NEW_ALIGNMENT__)
          ::operator delete (place, std::align_val_t{alignof(T)});
        else
          ::operator delete(place);
      }
    } owned{place};
    detail::construct_at(archive, static_cast<T*>(place));
    owned.place = nullptr;
    return static_cast<T*>(place);
  }
}

/// The wire's part of make_object.
template <class Archive, class T>
void save_for_make(Archive& archive, const T& value) {
  if constexpr (!std::default_initializable<T>) detail::pack_construction(archive, value);
}

template <class T, class Archive>
std::shared_ptr<T> make_shared_object(Archive& archive) {
  if constexpr (std::default_initializable<T>)
    return std::make_shared<T>();
  else
    return std::shared_ptr<T>{detail::make_object<T>(archive)};
}

template <class T, class OArchive, class IArchive>
struct polymorphic_type {
  static void save(packed_oarchive& archive, const void* object) {
    auto& out = static_cast<OArchive&>(archive);
    const T& value = *static_cast<const T*>(object);
    detail::save_for_make(out, value);
    detail::pack(out, value);
  }
  static void load(packed_iarchive& archive, void* object) {
    detail::unpack(static_cast<IArchive&>(archive), *static_cast<T*>(object));
  }
  static void* make(packed_iarchive& archive) {
    return detail::make_object<T>(static_cast<IArchive&>(archive));
  }
  static std::shared_ptr<void> make_shared(packed_iarchive& archive) {
    return detail::make_shared_object<T>(static_cast<IArchive&>(archive));
  }
  static void destroy(void* object) { delete static_cast<T*>(object); }

  static const polymorphic_operations operations;
  static registered_type entry;
  static const bool registered;

  static bool register_once() {
    const char* key = boost::serialization::guid<T>();
    polymorphic_types().add(entry, key != nullptr ? key : typeid(T).name());
    return true;
  }
};

template <class T, class O, class I>
constinit inline registered_type polymorphic_type<T, O, I>::entry{
    .type = &typeid(T), .operations = &polymorphic_type<T, O, I>::operations};
template <class T, class O, class I>
constinit inline const polymorphic_operations polymorphic_type<T, O, I>::operations{
    .entry = &entry,
    .save = save,
    .load = load,
    .make = make,
    .make_shared = make_shared,
    .destroy = destroy};
template <class T, class O, class I>
inline const bool polymorphic_type<T, O, I>::registered = register_once();

}  // namespace carom::detail

namespace boost::archive::detail {

/// BOOST_CLASS_EXPORT instantiates this for each archive that is registered with Boost; for ours it
/// enters the class in `polymorphic_types` before `main`.
template <class T>
struct ptr_serialization_support<carom::detail::packed_oarchive, T> {
  static BOOST_DLLEXPORT void instantiate() BOOST_USED;
  using x = instantiate_function<&ptr_serialization_support::instantiate>;
};

template <class T>
BOOST_DLLEXPORT void ptr_serialization_support<carom::detail::packed_oarchive, T>::instantiate() {
  (void)carom::detail::polymorphic_type<T, carom::detail::packed_oarchive,
                                        carom::detail::packed_iarchive>::registered;
}

}  // namespace boost::archive::detail
