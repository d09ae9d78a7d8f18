mod binary;
mod chunking;
mod classic;
mod harness;
mod limits;
mod meta;
