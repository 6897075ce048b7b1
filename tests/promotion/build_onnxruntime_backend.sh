#!/bin/sh
# Builds Triton's backend for ONNX Runtime, for processors alone, as the server of the wheel
# nvidia-pytriton 0.7.0 (Triton 2.51, r24.10) takes it.
#
#   build_onnxruntime_backend.sh SOURCES HEADERS LIBRARY OUT
#
# SOURCES  holds onnxruntime_backend, backend, core and common of github.com/triton-inference-server,
#          each at r24.10
# HEADERS  holds ONNX Runtime's onnxruntime_c_api.h and what it includes, no newer than the library
# LIBRARY  libonnxruntime.so, as in the wheel: onnxruntime/capi/libonnxruntime.so.*
# OUT      a folder of backends, for TRITON_BACKENDS of the tests
#
# Needs g++ and RapidJSON's headers (apt-get install rapidjson-dev).
set -eu
sources=$1 headers=$2 library=$3 out=$4/onnxruntime
mkdir -p "$out"
cp "$library" "$out/libonnxruntime.so.1"
set --
for name in onnxruntime onnxruntime_loader onnxruntime_utils; do
  set -- "$@" "$sources/onnxruntime_backend/src/$name.cc"
done
for name in common input_collector memory model model_instance output_responder; do
  set -- "$@" "$sources/backend/src/backend_$name.cc"
done
for name in async_work_queue thread_pool error; do
  set -- "$@" "$sources/common/src/$name.cc"
done
g++ -std=c++17 -O1 -fPIC -w -shared -o "$out/libtriton_onnxruntime.so" "$@" \
  -I"$headers" -I"$sources/onnxruntime_backend/src" -I"$sources/backend/include" \
  -I"$sources/core/include" -I"$sources/common/include" \
  "$out/libonnxruntime.so.1" -Wl,-rpath,'$ORIGIN' \
  -Wl,--version-script="$sources/onnxruntime_backend/src/libtriton_onnxruntime.ldscript" \
  -ldl -lpthread
