// One second of a 1 kHz tone through cgo.
package main

/*
#cgo LDFLAGS: -lmojo_audio -lm
#include <mojo_audio.h>
*/
import "C"

import (
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"unsafe"
)

// mel gives the bands one after the other, [band][frame].
func mel(samples []float32) (values []float32, bands, frames int, err error) {
	// The sentence of a failure belongs to the thread that failed.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if len(samples) == 0 {
		return nil, 0, 0, errors.New("there are no samples")
	}
	config := C.mojo_mel_config_default()
	var handle *C.MojoMelSpectrogram
	status := C.mojo_mel_spectrogram_compute((*C.float)(unsafe.Pointer(&samples[0])), C.size_t(len(samples)), &config, &handle)
	if status != C.MOJO_AUDIO_SUCCESS {
		return nil, 0, 0, errors.New(C.GoString(C.mojo_audio_last_error()))
	}
	defer C.mojo_mel_spectrogram_free(handle)
	var nMels, nFrames C.size_t
	C.mojo_mel_spectrogram_get_shape(handle, &nMels, &nFrames)
	values = make([]float32, int(C.mojo_mel_spectrogram_get_size(handle)))
	status = C.mojo_mel_spectrogram_get_data(handle, (*C.float)(unsafe.Pointer(&values[0])), C.size_t(len(values)))
	if status != C.MOJO_AUDIO_SUCCESS {
		return nil, 0, 0, errors.New(C.GoString(C.mojo_audio_last_error()))
	}
	return values, int(nMels), int(nFrames), nil
}

func main() {
	samples := make([]float32, 16000)
	for i := range samples {
		samples[i] = float32(0.5 * math.Sin(2*math.Pi*1000*float64(i)/16000))
	}
	values, bands, frames, err := mel(samples)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	loudest := 0
	for band := 0; band < bands; band++ {
		if values[band*frames+50] > values[loudest*frames+50] {
			loudest = band
		}
	}
	fmt.Printf("Shape: (%d, %d), loudest band %d\n", bands, frames, loudest)
}
