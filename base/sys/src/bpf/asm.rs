//! An assembler for eBPF (kernel Documentation/bpf/standardization/instruction-set): the few instructions we need.
//!
//! ```text
//!   63           32 31       16 15   12 11    8 7      0
//!   | immediate    | offset   | src   | dst   | opcode |
//! ```

use std::os::fd::{AsFd, AsRawFd};

/// A register. R0 holds results, R1 to R5 arguments (lost at calls), R6 to R9 survive calls, R10 is the frame pointer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
#[expect(missing_docs, reason = "they are numbered")]
pub enum Reg {
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    R10,
}

/// The size of a memory access in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
#[expect(missing_docs, reason = "they are numbered")]
pub enum Width {
    W4 = 0x00,
    W2 = 0x08,
    W1 = 0x10,
    W8 = 0x18,
}

/// A place in the program to jump to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Label(usize);

/// A program in the making.
#[derive(Default, Debug)]
pub struct Assembler {
    insns: Vec<u64>,
    /// Where each label was bound.
    labels: Vec<Option<usize>>,
    /// Jumps (by position) whose offset waits for a label.
    jumps: Vec<(usize, Label)>,
}

const ALU64: u8 = 0x07;
const JMP: u8 = 0x05;
const LDX_MEM: u8 = 0x61;
const ST_MEM: u8 = 0x62;
const STX_MEM: u8 = 0x63;
/// Second operand is a register.
const X: u8 = 0x08;

impl Assembler {
    /// Helper: r0 = address of the value of map r1 whose key is at r2, or 0.
    pub const MAP_LOOKUP_ELEM: i32 = 1;
    /// Helper: copies r4 bytes of packet r1 from offset r2 to r3; r0 = 0, or negative when they are not there.
    pub const SKB_LOAD_BYTES: i32 = 26;
    /// Helper: as [`SKB_LOAD_BYTES`](Self::SKB_LOAD_BYTES), in an XDP program (Linux 5.18).
    pub const XDP_LOAD_BYTES: i32 = 189;
    /// Helper: hands the packet to what map r1 has at key r2; r0 = what the program is to return, r3 when there is nothing.
    pub const REDIRECT_MAP: i32 = 51;

    /// An empty program.
    pub fn new() -> Assembler {
        Assembler::default()
    }

    fn push(&mut self, opcode: u8, dst: Reg, src: u8, offset: i16, imm: i32) {
        self.insns.push(
            u64::from(opcode)
                | u64::from(dst as u8) << 8
                | u64::from(src) << 12
                | u64::from(offset as u16) << 16
                | u64::from(imm as u32) << 32,
        );
    }

    /// A new label, to be bound once.
    pub fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// The label is here: before the next instruction.
    pub fn bind(&mut self, label: Label) {
        let old = self.labels[label.0].replace(self.insns.len());
        assert!(old.is_none(), "a label is bound once");
    }

    /// dst = src
    pub fn mov(&mut self, dst: Reg, src: Reg) {
        self.push(ALU64 | X | 0xb0, dst, src as u8, 0, 0);
    }

    /// dst = imm, sign-extended
    pub fn mov_imm(&mut self, dst: Reg, imm: i32) {
        self.push(ALU64 | 0xb0, dst, 0, 0, imm);
    }

    /// dst = imm, all 64 bits (two slots)
    pub fn mov_imm64(&mut self, dst: Reg, imm: u64) {
        self.wide(dst, 0, imm);
    }

    /// dst = the map, for helpers (two slots)
    pub fn load_map(&mut self, dst: Reg, map: &impl AsFd) {
        self.wide(dst, 1, map.as_fd().as_raw_fd() as u64);
    }

    fn wide(&mut self, dst: Reg, kind: u8, imm: u64) {
        self.push(0x18, dst, kind, 0, imm as i32);
        self.insns.push(imm >> 32 << 32);
    }

    /// dst += src
    pub fn add(&mut self, dst: Reg, src: Reg) {
        self.push(ALU64 | X, dst, src as u8, 0, 0);
    }

    /// dst += imm
    pub fn add_imm(&mut self, dst: Reg, imm: i32) {
        self.push(ALU64, dst, 0, 0, imm);
    }

    /// dst &= imm, sign-extended
    pub fn and_imm(&mut self, dst: Reg, imm: i32) {
        self.push(ALU64 | 0x50, dst, 0, 0, imm);
    }

    /// dst <<= imm
    pub fn shl_imm(&mut self, dst: Reg, imm: i32) {
        self.push(ALU64 | 0x60, dst, 0, 0, imm);
    }

    /// dst >>= imm, filled with zeros
    pub fn shr_imm(&mut self, dst: Reg, imm: i32) {
        self.push(ALU64 | 0x70, dst, 0, 0, imm);
    }

    /// dst ^= src
    pub fn xor(&mut self, dst: Reg, src: Reg) {
        self.push(ALU64 | X | 0xa0, dst, src as u8, 0, 0);
    }

    /// dst *= src, modulo 2^64
    pub fn mul(&mut self, dst: Reg, src: Reg) {
        self.push(ALU64 | X | 0x20, dst, src as u8, 0, 0);
    }

    /// dst = memory at base + offset, zero-extended, in the machine's byte order
    pub fn load(&mut self, width: Width, dst: Reg, base: Reg, offset: i16) {
        self.push(LDX_MEM | width as u8, dst, base as u8, offset, 0);
    }

    /// memory at base + offset = src
    pub fn store(&mut self, width: Width, base: Reg, offset: i16, src: Reg) {
        self.push(STX_MEM | width as u8, base, src as u8, offset, 0);
    }

    /// memory at base + offset = imm
    pub fn store_imm(&mut self, width: Width, base: Reg, offset: i16, imm: i32) {
        self.push(ST_MEM | width as u8, base, 0, offset, imm);
    }

    /// Jumps if reg == imm (sign-extended).
    pub fn jump_eq(&mut self, reg: Reg, imm: i32, to: Label) {
        self.jump_if(0x10, reg, imm, to);
    }

    /// Jumps if reg != imm (sign-extended).
    pub fn jump_ne(&mut self, reg: Reg, imm: i32, to: Label) {
        self.jump_if(0x50, reg, imm, to);
    }

    /// Jumps if a == b.
    pub fn jump_eq_reg(&mut self, a: Reg, b: Reg, to: Label) {
        self.jump_if_reg(0x10, a, b, to);
    }

    /// Jumps if a != b.
    pub fn jump_ne_reg(&mut self, a: Reg, b: Reg, to: Label) {
        self.jump_if_reg(0x50, a, b, to);
    }

    /// Jumps if a > b, unsigned: what the verifier wants to see between a place in a packet and its end.
    pub fn jump_gt_reg(&mut self, a: Reg, b: Reg, to: Label) {
        self.jump_if_reg(0x20, a, b, to);
    }

    /// Jumps if reg & imm (sign-extended) is not zero.
    pub fn jump_any(&mut self, reg: Reg, imm: i32, to: Label) {
        self.jump_if(0x40, reg, imm, to);
    }

    /// Jumps.
    pub fn jump(&mut self, to: Label) {
        self.jump_if(0x00, Reg::R0, 0, to);
    }

    fn jump_if(&mut self, condition: u8, reg: Reg, imm: i32, to: Label) {
        self.jumps.push((self.insns.len(), to));
        self.push(JMP | condition, reg, 0, 0, imm);
    }

    fn jump_if_reg(&mut self, condition: u8, a: Reg, b: Reg, to: Label) {
        self.jumps.push((self.insns.len(), to));
        self.push(JMP | X | condition, a, b as u8, 0, 0);
    }

    /// Calls a helper: arguments in r1.., result in r0.
    pub fn call(&mut self, helper: i32) {
        self.push(JMP | 0x80, Reg::R0, 0, 0, helper);
    }

    /// Ends; the result is r0.
    pub fn exit(&mut self) {
        self.push(JMP | 0x90, Reg::R0, 0, 0, 0);
    }

    /// The instructions, jumps resolved. Panics on a label that was never bound.
    pub fn finish(&self) -> Vec<u64> {
        let mut insns = self.insns.clone();
        for &(at, label) in &self.jumps {
            let target = self.labels[label.0].expect("every label is bound");
            let offset = target as i64 - (at as i64 + 1);
            let offset = i16::try_from(offset).expect("programs are short");
            insns[at] |= u64::from(offset as u16) << 16;
        }
        insns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_encodings() {
        let mut a = Assembler::new();
        let end = a.label();
        a.mov_imm(Reg::R0, 1);
        a.jump_eq(Reg::R1, 7, end);
        a.load(Width::W2, Reg::R0, Reg::R10, -2);
        a.mov_imm64(Reg::R2, 0x1122_3344_5566_7788);
        a.bind(end);
        a.exit();
        let expected = [
            0x0000_0001_0000_00b7,
            0x0000_0007_0003_0115,
            0x0000_0000_fffe_a069,
            0x5566_7788_0000_0218,
            0x1122_3344_0000_0000,
            0x0000_0000_0000_0095,
        ];
        assert_eq!(a.finish(), expected);
    }
}
