mod archives;
mod histories;
mod year;
