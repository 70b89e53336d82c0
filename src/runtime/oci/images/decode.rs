//! Layers out of their compression.
//!
//! By media type, never by a guess: gzip and zstd, both also in several parts one after another, and plain tar. What
//! comes out is bounded by who reads it; zstd's window is bounded here.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use oci_spec::image::MediaType;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::fault::{Fault, Outcome};

/// What is read of a blob at once, bytes.
const PIECE: usize = 128 * 1024;

/// The most memory that a zstd frame may ask for, bytes: eight times what the format's own specification recommends.
const MOST_WINDOW: u64 = 64 << 20;

/// The tar in a blob of this media type.
pub(super) fn decode<'a>(media_type: &MediaType, blob: impl Read + 'a) -> Outcome<Box<dyn Read + 'a>> {
    let blob = BufReader::with_capacity(PIECE, blob);
    match compression(media_type)? {
        Compression::None => Ok(Box::new(blob)),
        Compression::Gzip => Ok(Box::new(MultiGzDecoder::new(blob))),
        Compression::Zstd => Ok(Box::new(ZstdFrames::new(blob))),
    }
}

/// Whether layers of this media type can be unpacked.
pub(super) fn check(media_type: &MediaType) -> Outcome<()> {
    compression(media_type).map(drop)
}

enum Compression {
    None,
    Gzip,
    Zstd,
}

fn compression(media_type: &MediaType) -> Outcome<Compression> {
    match media_type {
        MediaType::ImageLayer | MediaType::ImageLayerNonDistributable => Ok(Compression::None),
        MediaType::ImageLayerGzip | MediaType::ImageLayerNonDistributableGzip => Ok(Compression::Gzip),
        MediaType::ImageLayerZstd | MediaType::ImageLayerNonDistributableZstd => Ok(Compression::Zstd),
        MediaType::Other(other) => match other.as_str() {
            "application/vnd.docker.image.rootfs.diff.tar" => Ok(Compression::None),
            "application/vnd.docker.image.rootfs.diff.tar.gzip" => Ok(Compression::Gzip),
            "application/vnd.docker.image.rootfs.diff.tar.zstd" => Ok(Compression::Zstd),
            _ => Err(Fault::refused(format!("it has a layer of the media type '{other}', which is not supported"))),
        },
        other => Err(Fault::refused(format!("it has a layer of the media type '{other}', which is none of layers"))),
    }
}

/// Frames of zstd one after another, those that are to be skipped among them.
struct ZstdFrames<R> {
    blob: R,
    decoder: FrameDecoder,
    /// Whether a frame is begun and not read to its end.
    inside: bool,
}

impl<R: BufRead> ZstdFrames<R> {
    fn new(blob: R) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(MOST_WINDOW);
        Self { blob, decoder, inside: false }
    }

    /// Begins the next frame; `false` at the end of the blob.
    fn begin(&mut self) -> io::Result<bool> {
        while !self.blob.fill_buf()?.is_empty() {
            match self.decoder.reset(&mut self.blob) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                    let skipped = io::copy(&mut (&mut self.blob).take(length.into()), &mut io::sink())?;
                    if skipped != u64::from(length) {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(invalid(&error)),
            }
        }
        Ok(false)
    }
}

fn invalid(error: &FrameDecoderError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

impl<R: BufRead> Read for ZstdFrames<R> {
    fn read(&mut self, piece: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.inside && !self.begin()? {
                return Ok(0);
            }
            self.inside = true;
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                let one = BlockDecodingStrategy::UptoBlocks(1);
                self.decoder.decode_blocks(&mut self.blob, one).map_err(|error| invalid(&error))?;
            }
            match self.decoder.read(piece)? {
                0 if self.decoder.is_finished() => self.inside = false,
                read => return Ok(read),
            }
        }
    }
}
