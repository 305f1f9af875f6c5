// CUDA devices that have no memory and run nothing, for a torch without CUDA.
//
// Tensors on them are FakeTensorMode's, so that no kernel is ever called. What is here answers the questions that
// torch's C++ asks of a device: how many there are, which one is current, what its streams and its generator are.
// It must be loaded before torch is imported: torch asks for the hooks once.

#include <ATen/core/Generator.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

namespace {

constexpr c10::DeviceIndex DEVICES = 2;
const c10::Device FIRST(c10::kCUDA, 0);

struct FakeGenerator : c10::GeneratorImpl {
  explicit FakeGenerator(c10::DeviceIndex index)
      : GeneratorImpl(c10::Device(c10::kCUDA, index < 0 ? 0 : index), c10::DispatchKeySet(c10::DispatchKey::CUDA)) {}

  void set_current_seed(uint64_t seed) override { seed_ = seed; }
  uint64_t current_seed() const override { return seed_; }
  uint64_t seed() override { return seed_; }
  void set_offset(uint64_t) override {}
  uint64_t get_offset() const override { return 0; }
  void set_state(const c10::TensorImpl&) override {}
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override { TORCH_CHECK(false, "a fake GPU has no state"); }
  GeneratorImpl* clone_impl() const override { return new FakeGenerator(device().index()); }

 private:
  uint64_t seed_ = 0;
};

// torch looks it up by this name.
struct CUDAHooks : at::CUDAHooksInterface {
  explicit CUDAHooks(at::CUDAHooksArgs) {}

  void init() const override {}
  bool hasCUDA() const override { return true; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  int getNumGPUs() const override { return DEVICES; }
  c10::DeviceIndex deviceCount() const override { return DEVICES; }
  c10::DeviceIndex current_device() const override { return 0; }
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
  void setCurrentDevice(c10::DeviceIndex) const override {}
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex) const override { return 0; }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex) const override { return 0; }
  at::Generator getNewGenerator(c10::DeviceIndex index = -1) const override {
    return at::make_generator<FakeGenerator>(index);
  }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex = -1) const override {
    static at::Generator generator = at::make_generator<FakeGenerator>(0);
    return generator;
  }
};

c10::Stream only_stream(c10::Device device) {
  return c10::Stream(c10::Stream::DEFAULT, device.has_index() ? device : FIRST);
}

// The engine of backward passes asks for the current device and its stream.
struct FakeGuard : c10::impl::NoOpDeviceGuardImpl<c10::DeviceType::CUDA> {
  c10::Device exchangeDevice(c10::Device) const override { return FIRST; }
  c10::Device getDevice() const override { return FIRST; }
  c10::DeviceIndex deviceCount() const noexcept override { return DEVICES; }
  c10::Stream getStream(c10::Device device) const noexcept override { return only_stream(device); }
  c10::Stream getDefaultStream(c10::Device device) const override { return only_stream(device); }
  c10::Stream getNewStream(c10::Device device, int = 0) const override { return only_stream(device); }
  c10::Stream exchangeStream(c10::Stream stream) const noexcept override { return stream; }
  void record(void**, const c10::Stream&, const c10::DeviceIndex, const c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void synchronizeEvent(void*) const override {}
};

}  // namespace

namespace at {
REGISTER_CUDA_HOOKS(CUDAHooks);
}
C10_REGISTER_GUARD_IMPL(CUDA, FakeGuard);
