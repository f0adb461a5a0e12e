// Memory for weights in large pages, where the system has them: a row of weights that is chosen at
// random is then found in one step of the translation of addresses and not in four.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include <cstdlib>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace lmri {

constexpr size_t PAGE_BYTES = 2 << 20;

// A tensor whose values are not set yet.
inline at::Tensor empty_in_large_pages(at::IntArrayRef shape, at::ScalarType dtype) {
  const size_t size = c10::multiply_integers(shape) * at::elementSize(dtype);
  const size_t whole = (size + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  void* memory = nullptr;
  if (size >= PAGE_BYTES && posix_memalign(&memory, PAGE_BYTES, whole) == 0) {
    // Advice: small pages do as well. What does not fill a large page stays in small ones.
    madvise(memory, size / PAGE_BYTES * PAGE_BYTES, MADV_HUGEPAGE);
    return at::from_blob(memory, shape, [](void* used) { std::free(used); },
                         at::TensorOptions(dtype));
  }
#endif
  return at::empty(shape, dtype);
}

}  // namespace lmri
