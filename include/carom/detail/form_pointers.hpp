// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/form.hpp>
#include <carom/detail/polymorphic.hpp>
#include <carom/detail/shared_objects.hpp>

#include <cstdint>
#include <memory>
#include <type_traits>
#include <typeinfo>

// Smart pointers are packed here and not by Boost's own pointer code: that believes class and
// object ids on the wire, so that corrupt bytes would alias objects of different types.

namespace carom::detail {

enum class pointer_mark : std::uint8_t {
  null,      ///< nothing follows
  declared,  ///< an object of exactly the pointer's type follows
  derived,   ///< the name of a registered class, then its object
  again,     ///< the number of a shared object that came before
};

template <class Archive>
pointer_mark get_mark(Archive& archive) {
  const auto mark = archive.template get_raw<std::uint8_t>();
  if (mark > static_cast<std::uint8_t>(pointer_mark::again))
    throw_corrupt("a pointer has no such mark");
  return pointer_mark{mark};
}

/// The class of the object when it is not the pointer's own.
template <class T>
const polymorphic_operations* dynamic_operations(const T& object) {
  if constexpr (std::is_polymorphic_v<T>) {
    if (typeid(object) != typeid(T)) return &find_polymorphic(typeid(object), typeid(T));
  }
  return nullptr;
}

template <class T>
const void* whole_object(const T& object) {
  if constexpr (std::is_polymorphic_v<T>)
    return dynamic_cast<const void*>(std::addressof(object));
  else
    return std::addressof(object);
}

template <class Archive, class T>
void save_object(Archive& archive, const T& object) {
  if (const auto* operations = dynamic_operations(object)) {
    archive.put_raw(pointer_mark::derived);
    archive.put_text(operations->entry->name);
    operations->save(archive, whole_object(object));
  } else if constexpr (std::is_abstract_v<T>) {
    throw_corrupt("an object of an abstract class");
  } else {
    archive.put_raw(pointer_mark::declared);
    detail::save_for_make(archive, object);
    detail::pack(archive, object);
  }
}

/// A class without objects of its own need not be serializable: only what derives from it travels.
template <class T>
consteval bool pointee_travels() {
  if constexpr (std::is_array_v<T> || std::is_void_v<T>)
    return false;
  else if constexpr (std::is_abstract_v<T>)
    return true;
  else
    return is_serializable_v<T>;
}

template <class T>
struct pointer_form {
  static constexpr bool travels = pointee_travels<std::remove_cv_t<T>>();
  static constexpr bool plain = false;
  static constexpr std::size_t min_size = 1;
};

template <class T>
struct form<std::unique_ptr<T>> : pointer_form<T> {
  using object = std::remove_cv_t<T>;

  template <class Archive>
  static void save(Archive& archive, const std::unique_ptr<T>& value) {
    if (value == nullptr)
      archive.put_raw(pointer_mark::null);
    else
      save_object(archive, static_cast<const object&>(*value));
  }
  template <class Archive>
  static void load(Archive& archive, std::unique_ptr<T>& value) {
    value.reset();
    switch (get_mark(archive)) {
      case pointer_mark::null: return;
      case pointer_mark::declared: value = load_declared(archive); return;
      case pointer_mark::derived: value = load_derived(archive); return;
      case pointer_mark::again: throw_corrupt("a unique_ptr to a shared object");
    }
  }

 private:
  template <class Archive>
  static std::unique_ptr<object> load_declared(Archive& archive) {
    if constexpr (std::is_abstract_v<object>) {
      throw_corrupt("an object of an abstract class");
    } else {
      std::unique_ptr<object> made{detail::make_object<object>(archive)};
      detail::unpack(archive, *made);
      return made;
    }
  }
  template <class Archive>
  static std::unique_ptr<object> load_derived(Archive& archive) {
    if constexpr (std::is_polymorphic_v<object>) {
      const auto& operations = find_polymorphic(archive.get_text());
      std::unique_ptr<void, void (*)(void*)> made{operations.make(archive), operations.destroy};
      auto* base =
          static_cast<object*>(upcast(*operations.entry->type, typeid(object), made.get()));
      operations.load(archive, made.get());
      (void)made.release();
      return std::unique_ptr<object>{base};
    } else {
      throw_corrupt("a derived object of a class without virtual functions");
    }
  }
};

template <class T>
struct form<std::shared_ptr<T>> : pointer_form<T> {
  using object = std::remove_cv_t<T>;

  template <class Archive>
  static void save(Archive& archive, const std::shared_ptr<T>& value) {
    save_shared(archive, value, reference_cycles::refused);
  }
  template <class Archive>
  static void load(Archive& archive, std::shared_ptr<T>& value) {
    value = load_shared(archive, reference_cycles::refused);
  }

  template <class Archive>
  static void save_shared(Archive& archive, const std::shared_ptr<T>& value,
                          reference_cycles cycles) {
    if (value == nullptr) return archive.put_raw(pointer_mark::null);
    const auto& held = static_cast<const object&>(*value);
    const auto [number, is_new] =
        archive.shared_objects().enter(value, whole_object(held), typeid(held), cycles);
    if (is_new) {
      save_object(archive, held);
      archive.shared_objects().complete(number);
    } else {
      archive.put_raw(pointer_mark::again);
      archive.put_raw(number);
    }
  }
  template <class Archive>
  static std::shared_ptr<object> load_shared(Archive& archive, reference_cycles cycles) {
    switch (get_mark(archive)) {
      case pointer_mark::null: break;
      case pointer_mark::declared: return load_declared(archive);
      case pointer_mark::derived: return load_derived(archive);
      case pointer_mark::again: {
        const auto number = archive.template get_raw<std::uint32_t>();
        const auto& found = archive.shared_objects().at(number, cycles);
        return {found.owner, found.template as<object>()};
      }
    }
    return nullptr;
  }

 private:
  template <class Archive>
  static std::shared_ptr<object> load_declared(Archive& archive) {
    if constexpr (std::is_abstract_v<object>) {
      throw_corrupt("an object of an abstract class");
    } else {
      auto made = detail::make_shared_object<object>(archive);
      const auto number = archive.shared_objects().enter(made, typeid(object));
      detail::unpack(archive, *made);
      archive.shared_objects().complete(number);
      return made;
    }
  }
  template <class Archive>
  static std::shared_ptr<object> load_derived(Archive& archive) {
    if constexpr (std::is_polymorphic_v<object>) {
      const auto& operations = find_polymorphic(archive.get_text());
      const auto made = operations.make_shared(archive);
      auto* base =
          static_cast<object*>(upcast(*operations.entry->type, typeid(object), made.get()));
      const auto number = archive.shared_objects().enter(made, *operations.entry->type);
      operations.load(archive, made.get());
      archive.shared_objects().complete(number);
      return {made, base};
    } else {
      throw_corrupt("a derived object of a class without virtual functions");
    }
  }
};

/// A weak_ptr refers to a shared object, also to one that is still under way: that is how a child
/// knows its parent. An object that nothing else in the message owns is gone after decoding.
template <class T>
struct form<std::weak_ptr<T>> : pointer_form<T> {
  template <class Archive>
  static void save(Archive& archive, const std::weak_ptr<T>& value) {
    form<std::shared_ptr<T>>::save_shared(archive, value.lock(), reference_cycles::allowed);
  }
  template <class Archive>
  static void load(Archive& archive, std::weak_ptr<T>& value) {
    value = form<std::shared_ptr<T>>::load_shared(archive, reference_cycles::allowed);
  }
};

}  // namespace carom::detail
