// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/task_entry.hpp>
#include <carom/errors.hpp>
#include <carom/export.hpp>
#include <iosfwd>
#include <memory>
#include <string>
#include <vector>

namespace carom {

namespace detail {

struct call_access;

/// Makes the reply to an actor's request; really a function of the CAF adapter (see actor.hpp).
using reply_function = void (*)();

/// Chosen where `call` is written: with actor.hpp included, calls know how to reply to actors.
struct no_adapter {
  template <class R>
  static reply_function make() {
    return nullptr;
  }
};
template <class F>
struct adapter_query {};
template <class F>
no_adapter adapter_of(adapter_query<F>, ...);

}  // namespace detail

/// A function and its packed arguments as a value: copyable, serializable, printable by its name.
/// Made by `carom::call`. Not synchronized. Another process understands it if the function has a
/// name there (`register_task`) and the same type, or lies in a library or program of the same
/// build that it has loaded; reading it throws unknown_task otherwise.
class CAROM_API packed_call {
 public:
  packed_call() = default;

  /// Whether there is a function; a default-made call has none and is refused by pools.
  bool valid() const noexcept { return entry_ != nullptr; }
  /// The registered name of the function, else its symbol or type.
  std::string name() const;

  template <class Archive>
  void save(Archive& ar, unsigned) const {
    const std::string name = holds_pointer() ? detail::registered_name(function_) : std::string();
    const detail::told_code entry = detail::tell_code(entry_);
    const detail::told_code function = holds_pointer() ? detail::tell_code(function_) : entry;
    // Where the function lies here is nobody else's business.
    const std::string arguments =
        holds_pointer() ? arguments_.substr(detail::code_ref_size) : arguments_;
    ar << name << entry.build_id << entry.offset << function.build_id << function.offset
       << type_name_ << arguments;
    const std::uint64_t count = descriptors_ ? descriptors_->size() : 0;
    ar << count;
    if constexpr (requires { ar.put_descriptor(0); }) {
      for (std::uint64_t i = 0; i < count; ++i) {
        ar << descriptors_->entries()[i].ticket;
        ar.put_descriptor(descriptors_->entries()[i].fd);
      }
    } else if (count != 0) {
      throw encoding_error("a call whose arguments hold descriptors travels by carom only");
    }
  }
  template <class Archive>
  void load(Archive& ar, unsigned) {
    std::string name;
    detail::told_code entry, function;
    ar >> name >> entry.build_id >> entry.offset >> function.build_id >> function.offset >>
        type_name_ >> arguments_;
    std::uint64_t count = 0;
    ar >> count;
    descriptors_.reset();
    if constexpr (requires { ar.get_descriptor(); }) {
      if (count > detail::descriptor_list::most) detail::throw_too_many(count, 0);
      if (count != 0) descriptors_ = std::make_shared<detail::descriptor_list>();
      for (std::uint64_t i = 0; i < count; ++i) {
        std::uint64_t ticket = 0;
        ar >> ticket;
        descriptors_->adopt(ticket, ar.get_descriptor());
      }
    }
    find_function(name, entry, function);
    reply_ = nullptr;
  }
  template <class Archive>
  void serialize(Archive& ar, unsigned version) {
    if constexpr (Archive::is_saving::value)
      save(ar, version);
    else
      load(ar, version);
  }

  friend CAROM_API std::ostream& operator<<(std::ostream& out, const packed_call& call);

 private:
  friend struct detail::call_access;

  /// Whether the arguments begin with the address of the function.
  bool holds_pointer() const noexcept { return function_ && function_ != entry_; }
  void find_function(const std::string& name, const detail::told_code& entry,
                     const detail::told_code& function);

  detail::code_pointer entry_ = nullptr;
  detail::code_pointer function_ = nullptr;
  detail::reply_function reply_ = nullptr;
  std::string type_name_;
  std::string arguments_;
  std::shared_ptr<detail::descriptor_list> descriptors_;
};

namespace detail {

struct call_access {
  static packed_call make(const task_type& type, code_pointer function, reply_function reply,
                          blob& arguments) {
    packed_call made;
    made.entry_ = type.entry;
    made.function_ = function;
    made.reply_ = reply;
    made.type_name_ = type.type_name;
    made.arguments_.assign(reinterpret_cast<const char*>(arguments.data()), arguments.size());
    if (arguments.has_descriptors())
      made.descriptors_ = std::make_shared<descriptor_list>(std::move(arguments.descriptors()));
    return made;
  }
  static code_pointer entry(const packed_call& call) noexcept { return call.entry_; }
  static code_pointer function(const packed_call& call) noexcept { return call.function_; }
  static reply_function reply(const packed_call& call) noexcept { return call.reply_; }
  static const std::string& type_name(const packed_call& call) noexcept { return call.type_name_; }
  /// Null if no descriptors go with the arguments.
  static const descriptor_list* descriptors(const packed_call& call) noexcept {
    return call.descriptors_.get();
  }
  /// For the processes that this one feeds.
  static std::span<const std::byte> arguments(const packed_call& call) noexcept {
    return std::as_bytes(std::span(call.arguments_));
  }
  /// Calls it here. What it returns is packed into `result`.
  static CAROM_API void run(const packed_call& call, blob& result);
};

}  // namespace detail

namespace detail {

template <class R, class... Ps>
inline constexpr bool may_be_task =
    (std::is_void_v<R> ||
     (is_serializable_v<R> && !std::is_reference_v<R> && !std::is_pointer_v<R>)) &&
    (... && (is_serializable_v<travelling_t<Ps>> && !std::is_pointer_v<std::remove_cvref_t<Ps>> &&
             (!std::is_lvalue_reference_v<Ps> || std::is_const_v<std::remove_reference_t<Ps>>)));

}  // namespace detail

/// Packs `f` and `args` now; runs nothing. What may be passed is what `pool::apply_async` takes.
/// Throws encoding_error if an argument cannot be packed.
template <class F, class... As,
          class Adapter = decltype(adapter_of(detail::adapter_query<std::decay_t<F>>{}, 0))>
packed_call call(F&& f, As&&... args) {
  using function = std::decay_t<F>;
  static_assert(detail::check_callable<function>::value);
  using task = detail::single_task<function, As...>;
  const function& fn = f;
  detail::blob packed;
  detail::function_codec<function>::pack(packed, fn);
  detail::pack_arguments<typename task::values>(packed, std::forward<As>(args)...);
  return detail::call_access::make(task::type, detail::naming_address(fn, task::type.entry),
                                   Adapter::template make<typename task::result>(), packed);
}

/// Gives a task a name that does not change between builds: shown in errors and traces, and what
/// other binaries know it by when they read a `packed_call`. Call it before pools are made; the
/// last name wins. Thread-safe.
template <class R, class... Ps>
void register_task(std::string name, R (*f)(Ps...)) {
  using function = R (*)(Ps...);
  detail::named_code code{reinterpret_cast<detail::code_pointer>(f), nullptr,
                          typeid(function).name()};
  if constexpr (detail::may_be_task<R, Ps...>)
    code.entry = detail::single_task<function, detail::travelling_t<Ps>...>::type.entry;
  detail::register_code_name(code, std::move(name));
}

}  // namespace carom
