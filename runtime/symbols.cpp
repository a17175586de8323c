// SPDX-License-Identifier: BSL-1.0
#include "runtime/symbols.hpp"

#include <cxxabi.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>

#include "runtime/unique_fd.hpp"

namespace carom::runtime {
namespace {

/// A file in memory; empty if it cannot be read.
class mapped_file {
 public:
  explicit mapped_file(const std::string& path) {
    const unique_fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    struct stat status {};
    if (!fd || ::fstat(fd.get(), &status) != 0 || status.st_size <= 0) return;
    const auto size = static_cast<std::size_t>(status.st_size);
    void* at = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd.get(), 0);
    if (at != MAP_FAILED) bytes_ = {static_cast<const std::byte*>(at), size};
  }
  ~mapped_file() {
    if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
  }
  mapped_file(const mapped_file&) = delete;
  mapped_file& operator=(const mapped_file&) = delete;

  /// `count` objects at `offset`; empty if they are not all there.
  template <class T>
  std::span<const T> objects(std::uint64_t offset, std::uint64_t count) const {
    if (offset > bytes_.size() || count > (bytes_.size() - offset) / sizeof(T)) return {};
    if ((reinterpret_cast<std::uintptr_t>(bytes_.data()) + offset) % alignof(T) != 0) return {};
    return {reinterpret_cast<const T*>(bytes_.data() + offset), count};
  }

 private:
  std::span<const std::byte> bytes_;
};

std::string demangled(const char* name) {
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> text(
      abi::__cxa_demangle(name, nullptr, nullptr, &status), &std::free);
  return status == 0 && text ? text.get() : name;
}

}  // namespace

symbol find_symbol(const std::string& path, std::uint64_t offset) {
  const mapped_file file(path);
  const auto header = file.objects<ElfW(Ehdr)>(0, 1);
  if (header.empty() || std::memcmp(header[0].e_ident, ELFMAG, SELFMAG) != 0 ||
      header[0].e_shentsize != sizeof(ElfW(Shdr)))
    return {};
  const auto sections = file.objects<ElfW(Shdr)>(header[0].e_shoff, header[0].e_shnum);
  for (const auto wanted : {SHT_SYMTAB, SHT_DYNSYM}) {
    for (const auto& section : sections) {
      if (section.sh_type != static_cast<ElfW(Word)>(wanted) || section.sh_link >= sections.size())
        continue;
      const auto& text = sections[section.sh_link];
      const auto names = file.objects<char>(text.sh_offset, text.sh_size);
      for (const auto& one :
           file.objects<ElfW(Sym)>(section.sh_offset, section.sh_size / sizeof(ElfW(Sym)))) {
        if (ELF64_ST_TYPE(one.st_info) != STT_FUNC || one.st_shndx == SHN_UNDEF) continue;
        if (offset < one.st_value || offset - one.st_value >= one.st_size) continue;
        if (one.st_name >= names.size() ||
            !std::memchr(&names[one.st_name], 0, names.size() - one.st_name))
          continue;
        return {demangled(&names[one.st_name]), offset - one.st_value};
      }
    }
  }
  return {};
}

}  // namespace carom::runtime
