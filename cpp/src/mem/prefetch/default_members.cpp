#include "vm/mem/prefetch/adaptive.hpp"
#include "vm/mem/prefetch/distance.hpp"
#include "vm/mem/prefetch/free_neighbours.hpp"
#include "vm/mem/prefetch/markov.hpp"
#include "vm/mem/prefetch/sequential.hpp"
#include "vm/mem/prefetch/strided.hpp"

namespace vm::mem::prefetch {

std::vector<std::unique_ptr<Prefetcher>> default_members(std::uint32_t degree) {
  StridedConfig strided;
  strided.degree = degree;
  std::vector<std::unique_ptr<Prefetcher>> members;
  members.push_back(std::make_unique<Sequential>(SequentialConfig{degree}));
  members.push_back(std::make_unique<Strided>(strided));
  members.push_back(std::make_unique<Distance>());
  members.push_back(std::make_unique<Markov>());
  members.push_back(std::make_unique<FreeNeighbours>());
  return members;
}

}  // namespace vm::mem::prefetch
